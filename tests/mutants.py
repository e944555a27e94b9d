"""Is every guard guarded? Each is taken out of a copy of the tree, and the test that injects its fault must fail.

`python tests/mutants.py` tries all of `MUTANTS`; `python tests/mutants.py 31 45` those of these faults. Exit code 1 if
one survived. The copy is made anew for each, so the tree itself is never touched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[1]


class Mutant(NamedTuple):
    """A guard taken out."""

    fault: int  # its row in docs/reliability.md
    file: str
    guard: str  # stands in the file exactly once
    without: str  # what it becomes
    test: str  # that has to fail then: file below tests/, and how its name begins


IMAGES, DATASETS, STORAGE, MODELS = (
    f"faults/test_{name}.py::test_" for name in ("images", "datasets", "storage", "models")
)
DECODED, LISTED, FETCHED, STAGE, DASK = (
    f"extract/test_{name}.py::test_" for name in ("decode", "dataset", "download", "stage", "cluster")
)
MANIFEST = "extract/test_manifest.py::test_"
COLOURS, TIFFS = "extract/test_colour.py::test_", "extract/test_tiff.py::test_"
HUBS = "extract/test_onnx_files.py::test_"
FILES, ONNX = "extract/test_model_files.py::test_", "extract/network/onnx_file.py"
ACROSS = "classify/across/test_"
UNLOCKED = "faults/test_no_locks.py::test_"
READ, PREDICTED = "features/test_reader.py::test_", "classify/test_predict.py::test_"
# fmt: off
MUTANTS = (
    Mutant(1, "extract/images/decode.py", "if not data:", "if data is None:", IMAGES + "bad_files"),
    Mutant(2, "extract/images/decode.py", "except UnidentifiedImageError as error:", "except BlockingIOError as error:", IMAGES + "bad_files"),
    Mutant(3, "extract/images/decode.py", "\nImage.init()\n", "\nImage.init()\nfrom PIL import ImageFile\nImageFile.LOAD_TRUNCATED_IMAGES = True\n", IMAGES + "bad_files"),
    Mutant(4, "extract/images/decode.py", "if image.width * image.height > MOST_PIXELS:", "if False:", IMAGES + "a_bomb"),
    Mutant(4, "extract/images/decode.py", "if side * side > MOST_PIXELS:", "if False:", DECODED + "pad_makes"),
    Mutant(4, "extract/images/decode.py", "if width * height > MOST_PIXELS:", "if False:", DECODED + "pad_makes"),
    Mutant(4, "features/source.py", "if size > MOST_BYTES:", "if False:", DECODED + "what_is_no_file"),
    Mutant(5, "extract/images/colour.py", '    return image.convert("RGB")', '    return image.convert("L").convert("RGB")', DECODED + "cmyk_and_grey"),
    Mutant(6, "extract/images/colour.py", 'if image.mode in ("I", "F") or image.mode.startswith("I;16"):', 'if image.mode == "F":', DECODED + "sixteen_bits"),
    Mutant(7, "extract/images/decode.py", "to_srgb(turned(image), greys, white)", "to_srgb(image, greys, white)", DECODED + "exif_orientation"),
    Mutant(8, "extract/compute/pipeline.py", "if has_pages(file.data):", "if False:", IMAGES + "animations"),
    Mutant(9, "extract/images/decode.py", 'if data[4:8] == b"ftyp" and', "if False and", IMAGES + "bad_files"),
    Mutant(9, "extract/stack/changes.py", 'if reason == HEIC and "HEIF" in Image.OPEN:', "if False:", "extract/test_update.py::test_a_photo_enters"),
    Mutant(10, "extract/images/colour.py", "if image.has_transparency_data:", "if False:", DECODED + "alpha_goes"),
    Mutant(11, "extract/images/colour.py", '    return image.convert("RGB")', '    return Image.frombytes("L", image.size, image.tobytes()).convert("RGB") if image.mode == "P" else image.convert("RGB")', DECODED + "palette"),
    Mutant(11, "extract/images/colour.py", "if not (-slack * white <= low and high <= white * (1 + slack)):", "if False:", DECODED + "float_and"),
    Mutant(12, "extract/images/views.py", "image.resize((side, side), FILTERS[filter], box)", "image.crop(tuple(map(int, box))).resize((side, side))", IMAGES + "odd_shapes"),
    Mutant(13, "extract/images/decode.py", "formats=[name for name in FORMATS if name in Image.OPEN]", "formats=None", IMAGES + "a_postscript"),
    Mutant(14, "extract/compute/pipeline.py", "if path in recipe.listing.nameless:", "if False:", IMAGES + "odd_names"),
    Mutant(15, "extract/images/folders.py", "if (place := (*inside.parts[:depth], status.st_dev, status.st_ino)) in seen:", "if False:", IMAGES + "links"),
    Mutant(15, "extract/images/folders.py", "*inside.parts[:depth], ", "", LISTED + "linked_class"),
    Mutant(16, "extract/images/folders.py", "onerror=_unreadable", "onerror=None", IMAGES + "files_that_this_user"),
    Mutant(16, "extract/stack/changes.py", "else source.is_readable(path)", "else (*then,) != now", "extract/test_update.py::test_a_reject_that_cannot"),
    Mutant(17, "extract/stack/passes.py", "if changed := _changed(stacks, recipe):", "if changed := []:", IMAGES + "a_file_that_changes"),
    Mutant(17, "features/source.py", "raise Unreadable(CHANGING)", "pass", IMAGES + "a_file_that_is_being"),
    Mutant(18, "extract/images/dataset.py", "if not layout.images:", "if False:", LISTED + "nothing_to_list"),
    Mutant(18, "extract/images/dataset.py", "if len(names) == 1:", "if False:", LISTED + "nothing_to_list"),
    Mutant(19, "extract/stack/warnings.py", "if alike := _alike(images.label_names):", "if alike := []:", DATASETS + "class_names"),
    Mutant(20, "extract/stack/warnings.py", "if copies := leaked(images):", "if copies := {}:", DATASETS + "the_same_image_in"),
    Mutant(20, "extract/stack/passes.py", "    if job.no_leakage:", "    if False:", DATASETS + "the_same_image_in"),
    Mutant(21, "extract/stack/warnings.py", "if twice := _two_labels(images):", "if twice := []:", DATASETS + "the_same_image_under"),
    Mutant(22, "extract/stack/warnings.py", "np.flatnonzero(train == 0)]:", "[]]:", DATASETS + "a_class_only"),
    Mutant(23, "extract/stack/warnings.py", "if train[most] >= UNEVEN * train[least]:", "if False:", DATASETS + "a_thousand"),
    Mutant(24, "extract/images/manifest.py", "if (before := seen.setdefault(found[line], line)) != line:", "if not (before := line):", LISTED + "manifest_that_is_wrong"),
    Mutant(24, "extract/images/manifest.py", "if name in meant.several:", "if False:", MANIFEST + "names_of"),
    Mutant(24, "extract/images/manifest.py", 'if there[:3] == PREDICTIONS and "error" in there and not given:', "if False:", MANIFEST + "a_table"),
    Mutant(24, "extract/images/manifest.py", "if None in row or None in row.values():", "if False:", DATASETS + "a_manifest"),
    Mutant(25, "features/writer.py", 'good: np.ndarray = self.row_state == STATES["done"]', "good: np.ndarray = self.row_state >= 0", STORAGE + "a_kill_at_every"),
    Mutant(25, "features/writer.py", "bad = (crc != self.row_crc32[start:stop]) &", "bad = (crc != crc) &", "extract/test_properties.py"),
    Mutant(26, "features/runtime/cli.py", "    _asked_by = signal.SIGTERM\n", "", STORAGE + "a_signal_ends"),
    Mutant(26, "features/runtime/cluster.py", "preload=[DEAF],", "", DASK + "interrupted"),
    Mutant(26, "classify/__main__.py", "return interrupted() if", "return 130 if", "classify/test_checkpoint.py::test_a_signal_ends"),
    Mutant(27, "features/layout.py", "check_space(path.parent, data + HDF5_OWN)", "pass", STORAGE + "too_little_disk"),
    Mutant(27, "features/runtime/cli.py", "except OSError as error:", "except EOFError as error:", STORAGE + "a_disk_that_fills"),
    Mutant(28, "features/runtime/lock.py", "            raise _unwritable(path.parent, error) from None", "            raise", STORAGE + "a_read_only"),
    Mutant(29, "features/runtime/disk.py", "fcntl.LOCK_EX |", "fcntl.LOCK_SH |", STORAGE + "a_second_writer"),
    Mutant(30, "features/runtime/lock.py", "SoftFileLock(path,", 'SoftFileLock(f"{path}.{os.getpid()}",', UNLOCKED + "writers_of_the_same"),
    Mutant(30, "features/runtime/lock.py", "if lacking := _locks_lacking(path.parent):", 'if lacking := "":', UNLOCKED + "writers_of_the_same"),
    Mutant(31, "features/check.py", "bad += (row + np.flatnonzero(now != crc[here])).tolist()", "", "features/test_check.py::test_a_flipped_bit_in_a_row"),
    Mutant(31, "extract/stack/look.py", "damaged=tuple(damaged_rows(like))", "damaged=()", STORAGE + "a_flipped_bit_is"),
    Mutant(31, "extract/stack/update.py", "rows.view[here]) == crc[here]", "rows.view[here]) >= 0", STORAGE + "a_flipped_bit_is"),
    Mutant(31, "extract/stack/look.py", "damaged=tuple(damaged_rows(like))", "damaged=()", "extract/test_properties.py"),
    Mutant(32, "features/open.py", "        raise unreadable(path, error, RESTORE) from None", "        raise", READ + "truncated"),
    Mutant(32, "features/open.py", "        raise unreadable(path, error, RESTORE) from None", "        raise", READ + "not_hdf5"),
    Mutant(32, "features/validate.py", 'if attrs.get("format") != FORMAT:', "if False:", READ + "foreign"),
    Mutant(33, "features/writer.py", "bad = (crc != self.row_crc32[start:stop]) &", "bad = (crc != crc) &", STORAGE + "a_power_loss"),
    Mutant(34, "extract/stack/plan.py", "refuse(finished.path, [*finished.settings, *_gone(finished)])", "pass", STAGE + "other_settings"),
    Mutant(34, "extract/stack/plan.py", "if not finished.damaged and not finished.changes():", "if not finished.damaged:", "extract/test_update.py::test_only_what"),
    Mutant(34, "extract/network/base.py", 'return {"weights_sha256": hashed(Path(weights))}', "return {}", STAGE + "another_weights"),
    Mutant(35, "features/validate.py", "if version > VERSION:", "if False:", READ + "newer_version"),
    Mutant(36, "extract/network/forward.py", "            batch //= 2", "            raise", MODELS + "out_of_memory_halves"),
    Mutant(36, "extract/network/forward.py", "                raise\n            # Not", "                raise\n            raise\n            # Not", MODELS + "out_of_memory_in"),
    Mutant(37, "extract/network/forward.py", 'if device == "gpu" and not there:', "if False:", STAGE + "refused_before"),
    Mutant(38, "extract/recipe.py", "~np.isfinite(features).all(1)", "np.zeros(len(features))", MODELS + "features_that_are"),
    Mutant(38, "classify/rows.py", "bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))", "bad: list[int] = []", MODELS + "a_stack_with_features"),
    Mutant(39, "extract/network/base.py", 'if "URL fetch failure" not in str(error):', "if True:", STAGE + "no_network"),
    Mutant(40, "extract/network/base.py", 'why = "is damaged or was not downloaded to its end" if file.exists() else', "why =", MODELS + "half_of"),
    Mutant(40, "extract/network/base.py", "except (OSError, zipfile.BadZipFile) as error:", "except EOFError as error:", "extract/test_base.py::test_half_a"),
    Mutant(41, "classify/classical/memory.py", "rows * width + ROOM\n    if needed > free:", "rows * width + ROOM\n    if False:", MODELS + "memory_is_estimated"),
    Mutant(41, "classify/classical/memory.py", "if needed(rows, width, kernel, stacks, paired) > free:", "if False:", "classify/test_search.py::test_without_memory"),
    Mutant(42, "classify/fitting.py", 'return {"converged": sound}', 'return {"converged": True}', MODELS + "non_convergence"),
    Mutant(43, "classify/saved.py", "    if strange:", "    if False:", MODELS + "a_model_file"),
    Mutant(43, "classify/skops_file.py", '    if not zipfile.is_zipfile(file):', "    if False:", MODELS + "a_model_file"),
    Mutant(43, "classify/skops_file.py", "    if unknown:", "    if False:", "classify/test_classifiers.py::test_a_model_file_with"),
    Mutant(44, "classify/saved.py", "    if differs:", "    if False:", MODELS + "a_model_and"),
    Mutant(45, "features/validate.py", "isinstance(file.get(name, getlink=True), h5py.HardLink) and ", "", MODELS + "hostile"),
    Mutant(45, "features/validate.py", "data.external or data.is_virtual or ", "", MODELS + "hostile"),
    Mutant(45, "features/validate.py", "if stored > size or needed > UNPACKED * stored:", "if False:", MODELS + "hostile"),
    Mutant(45, "features/validate.py", "if not 0 < step <= end - at:", "if False:", MODELS + "hostile"),
    Mutant(46, "extract/compute/rebuild.py", 'if row.preprocessing != made["preprocessing"]:', "if False:", PREDICTED + "stage_one_that"),
    Mutant(46, "extract/compute/rebuild.py", "if not file.is_file():", "if False:", PREDICTED + "stage_one_that"),
    Mutant(46, "extract/compute/rebuild.py", 'differs += changed_versions(made["versions"])', "pass", PREDICTED + "other_versions"),
    Mutant(47, "classify/saved.py", "if (now := _sha256(folder / name)) != saved:", "if not (now := _sha256(folder / name)):", PREDICTED + "a_model_with"),
    Mutant(48, "extract/images/download.py", "_check(file, member)", "pass", FETCHED + "members_that"),
    Mutant(49, "extract/images/download.py", "if (md5 := _md5(partial)) != archive.md5:", "if not (md5 := _md5(partial)):", FETCHED + "another_file"),
    Mutant(49, "extract/images/download.py", "if (md5 := _md5(file)) != archive.md5:", "if not (md5 := _md5(file)):", FETCHED + "a_file_put_there"),
    Mutant(50, "extract/images/download.py", "if _size(partial) <= there:", "if True:", FETCHED + "a_broken_connection"),
    Mutant(50, "extract/images/download.py", 'wanted = {"Range": f"bytes={there}-"} if there else {}', "wanted: dict[str, str] = {}", FETCHED + "a_later_run"),
    Mutant(50, "extract/images/download.py", 'members.extract(member, unfinished,', "members.extract(member, folder,", FETCHED + "a_kill_while"),
    Mutant(51, "features/runtime/cluster.py", "except (OSError, ValueError, TypeError) as error:", "except EOFError as error:", DASK + "no_scheduler"),
    Mutant(52, "extract/compute/cluster.py", "return other_versions(writers, installed(writers))", 'return ""', DASK + "a_worker_with_other"),
    Mutant(53, "extract/compute/cluster.py", 'return_when="FIRST_COMPLETED")', 'return_when="FIRST_COMPLETED").done, set()', DASK + "a_killed_worker"),
    Mutant(54, "extract/compute/cluster.py", "if open_source(root).exists():", "if True:", DASK + "workers_that_see_other"),
    Mutant(54, "extract/compute/cluster.py", "and listing.source.is_readable(path):", "and False:", DASK + "workers_that_see_other"),
    Mutant(54, "extract/stack/passes.py", "if still := _changed(stacks, recipe):", "if still := []:", DASK + "workers_that_see_an_old"),
    Mutant(55, "classify/one_stack.py", "if name in fitted.done and ", "if False and ", "classify/test_checkpoint.py::test_a_signal_ends_a_comparison"),
    Mutant(56, "classify/saved.py", 'for name in ("model.json", *KEPT, *MODEL_FILES):', 'for name in ("model.json", *MODEL_FILES):', "classify/test_fit.py::test_a_model_never"),
    Mutant(56, "classify/saved.py", "        check_space(folder, size + HDF5_OWN)\n", "        pass\n", "classify/test_fit.py::test_a_disk_too_small"),
    Mutant(34, "extract/stack/changes.py", "    changes.moved.update(_moved(", "    dict().update(_moved(", "extract/test_update.py::test_rows_follow"),
    Mutant(57, "extract/stack/plan.py", 'by bytes"] if there.gone else []', 'by bytes"] if False else []', "extract/test_update.py::test_another_dataset"),
    Mutant(58, "extract/stack/look.py", "if count < WORTH_IT * len(sizes) or", "if True or", "extract/test_update.py::test_the_same_dataset"),
    Mutant(59, "extract/images/folders.py", "or name.lower() in SYSTEM", "or False", LISTED + "system_folders"),
    Mutant(59, "extract/images/folders.py", "empty = sorted(folders - {image.label for image in images})", "empty = []", LISTED + "files_that_are_left"),
    Mutant(60, "extract/images/split.py", "if groups is not None and any(groups):", "if False:", "extract/test_split.py::test_groups_stay"),
    Mutant(60, "classify/folds.py", "    if names is not None:", "    if False:", "classify/test_classifiers.py::test_groups_never"),
    Mutant(60, "extract/images/split.py", "if all(have[label] + count < total[label] for label, count in classes[unit].items()):", "if True:", "extract/test_split.py::test_a_class_that"),
    Mutant(60, "extract/images/split.py", "if any(wanted[label] and not have[label] for label in classes[unit]):", "if False:", "extract/test_split.py::test_every_class"),
    Mutant(60, "classify/fusion.py", "if other.groups != first.groups:", "if False:", "classify/test_classifiers.py::test_groups_never"),
    Mutant(61, "extract/images/dataset.py", 'name.replace(",", ".")', "name", MANIFEST + "measurements"),
    Mutant(61, "extract/images/dataset.py", "if len(numbers) == len(names) and (", "if False and (", LISTED + "manifest_that_is_wrong"),
    Mutant(62, "features/archive.py", 'if path.is_absolute() or ".." in path.parts:', "if False:", "extract/test_archive.py::test_archives_that"),
    Mutant(63, "features/check.py", "    if gone:", "    if False:", "features/test_check.py::test_images_are_hashed"),
    Mutant(67, "features/runtime/cli.py", 'stream.reconfigure(errors="plain")', "pass", "features/test_cli.py::test_a_terminal"),
    Mutant(68, "features/compression.py", "(lost > MOST_LOST,", "(lost > np.inf,", "features/test_compression.py::test_numbers_too_small"),
    Mutant(69, "extract/network/cache.py", 'about["files"] == _hashes(files, contents)', "True", "extract/test_cache.py::test_a_broken"),
    Mutant(69, "extract/network/cache.py", "except OSError as error:  # it may be whole", "except EOFError as error:  # it may be whole", "extract/test_cache.py::test_an_entry_that_the_system"),
    Mutant(69, "extract/network/cache.py", 'return {**key, "code": _code()}', "return key", "extract/test_cache.py::test_another_version"),
    Mutant(70, "extract/network/cache.py", "except Exception as error:  # OpenVINO", "except EOFError as error:  # OpenVINO", "extract/test_cache.py::test_nowhere"),
    Mutant(71, "extract/recipe.py", 'layers = tuple(json.loads(attrs.get("layers", "[]")))', "layers = ()", "extract/test_layers.py::test_one_is_gone"),
    Mutant(72, "extract/recipe.py", "> MOST_LOST * length", "> np.inf", "extract/test_stored.py::test_numbers_that"),
    Mutant(73, "features/open.py", "        if stack.key != key:", "        if False:", "features/test_shards.py::test_bad_indices"),
    Mutant(73, "features/shards.py", "    if differs:\n", "    if False:\n", "features/test_shards.py::test_what_does"),
    Mutant(74, "classify/classical/workers.py", "if part.token not in _rows_here:", "if not _rows_here:", "extract/test_cluster.py::test_passes_where"),
    Mutant(75, "classify/classical/workers.py", "except (Refused, Failed) as error:", "except KeyError as error:", "extract/test_cluster.py::test_a_worker_that_cannot"),
    Mutant(76, ONNX, "or not any(file.resolve().is_relative_to(folder) for folder in folders)", "", FILES + "damaged_and_hostile"),
    Mutant(76, "extract/network/onnx_graph.py", "except decoding.DecodeError as error:", "except EOFError as error:", FILES + "damaged_and_hostile"),
    Mutant(77, "extract/processors.py", "if not known and value", "if False and value", "extract/test_preprocessing.py::test_what"),
    Mutant(78, "extract/network/keras_file.py", "if code := sorted(set(_code(told))):", "if code := []:", FILES + "code_in"),
    Mutant(79, ONNX, "for path in self.external)]", "for path in ())]", FILES + "from_a_folder"),
    Mutant(64, "extract/images/colour.py", "if mode != KINDS.get(image.mode):", "if True:", COLOURS + "colours_are"),
    Mutant(64, "extract/images/colour.py", "if np.abs(moved).max() <= SAME:", "if False:", COLOURS + "srgb_stays"),
    Mutant(64, "extract/images/colour.py", "    except (KeyError, OSError,", "    except (EOFError,", COLOURS + "a_profile_that_cannot"),
    Mutant(64, "extract/images/colour.py", "ImageCms.Flags.BLACKPOINTCOMPENSATION | ", "", COLOURS + "black_ink"),
    Mutant(64, "extract/images/decode.py", "            if managed:\n", "            if True:\n", COLOURS + "old_stacks"),
    Mutant(65, "extract/images/tiff.py", "(INTEGER, 12): 4095, ", "", TIFFS + "twelve"),
    Mutant(65, "extract/images/colour.py", "255 - levels if greys.inverted else levels", "levels", TIFFS + "white_is_zero"),
    Mutant(65, "extract/images/colour.py", "np.where(values == key, 0, 255)", "np.where(values == key, 255, 255)", COLOURS + "a_transparent_grey"),
    Mutant(65, "extract/images/colour.py", "if high <= top * (1 + SLACK)", "if high <= top", COLOURS + "a_float"),
    Mutant(65, "extract/images/colour.py", "if white > 1 and high < white * FAINTEST:", "if False:", COLOURS + "floats_of_no"),
    Mutant(65, "extract/images/tiff.py", "if image.mode == \"L\" and (sample, bits) == (SIGNED, 8):", "if False:", TIFFS + "signed"),
    Mutant(65, "extract/images/tiff.py", "elif tile[0] == \"libtiff\" and (raw :=", "elif False and (raw :=", TIFFS + "compressed_in"),
    Mutant(66, "extract/images/tiff.py", "if data[:4] not in PREFIXES:", "if True:", TIFFS + "what_is_not"),
    Mutant(66, "extract/images/tiff.py", "if tags.get(COMPRESSION) in LENIENT:", "if False:", TIFFS + "a_damaged"),
    Mutant(66, "extract/images/tiff.py", "elif tags.get(COMPRESSION) in DEFLATE:", "elif False:", TIFFS + "a_wrong"),
    Mutant(66, "extract/images/tiff.py", "        library.TIFFSetErrorHandler(None)", "        library.TIFFGetVersion()", TIFFS + "odd_tags"),
    Mutant(66, "extract/images/decode.py", "raise Unreadable(FLAT)", "pass", COLOURS + "a_psd"),
    Mutant(58, "features/check.py", "if not source.exists():", "if False:", "classify/test_finetune.py::test_a_dataset_that_moved"),
    Mutant(80, "classify/across/alignment.py", "        _refuse_others(matched[0], other, own_split)", "        pass", ACROSS + "alignment.py::test_what_does_not_belong"),
    Mutant(80, "classify/across/alignment.py", "(path, digest, view) not in common and path not in rejected", "False", ACROSS + "alignment.py::test_an_image_that_is_missing"),
    Mutant(80, "classify/across/alignment.py", "    _refuse_twins(stacks)\n", "", ACROSS + "alignment.py::test_stacks_of_other"),
    Mutant(81, "classify/across/kept.py", "except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):", "except FileNotFoundError:", ACROSS + "compare_stacks.py::test_a_killed"),
    Mutant(82, "classify/across/run.py", "except Exception as error:  # of each library", "except BlockingIOError as error:  # of each library", ACROSS + "compare_stacks.py::test_a_cell_that_fails"),
    Mutant(83, "extract/images/corrections.py", "        if wrong:\n", "        if False:\n", "extract/test_corrections.py::test_wrong_corrections"),
    Mutant(83, "extract/images/corrections.py", "if new and not self.new_classes:", "if False:", "extract/test_corrections.py::test_wrong_corrections"),
    Mutant(83, "extract/images/corrections.py", "delimiter=delimiter_of(text)", "delimiter=','", "extract/test_corrections.py::test_corrections_are_applied"),
    Mutant(84, "extract/stack/look.py", "lost = stack.corrections and not listing.corrections", "lost = False", "extract/test_update.py::test_corrections_compute_nothing"),
    Mutant(85, "classify/comparison/rendering.py", "autoescape=True", "autoescape=False", "classify/test_audit.py::test_the_page_corrects"),
    Mutant(86, "classify/auditing/pixels.py", "if not np.array_equal(photo.sha256, sha256[i]):", "if False:", "classify/test_audit.py::test_photos_that_show_little"),
    Mutant(87, "extract/stack/passes.py", "near_copies(writer) if job.no_leakage == NEAR else None", "None", "extract/test_leakage.py::test_no_split or near_copies_of"),
    Mutant(87, "extract/stack/leakage.py", "    if grouped != wanted:", "    if False:", "extract/test_leakage.py::test_no_split"),
    Mutant(88, "features/near_index.py", "there == _about(images, pool):", "there is not None:", "features/test_nearest.py::test_the_index_finds"),
    Mutant(89, "classify/export.py", "if path.exists()]:", "if False]:", "classify/test_export.py::test_refused"),
    Mutant(90, "classify/coverage.py", "        if self.missing:\n", "        if False:\n", "classify/test_coverage.py::test_models_that_cannot_say"),
    Mutant(96, "extract/network/onnx_axes.py", "return tuple(x[i] for i in _attribute(", "return x or tuple(x[i] for i in _attribute(", "extract/test_axes.py::test_channels_last or the_first"),
    Mutant(96, "extract/network/onnx_network.py", "        if axis is None or axis >= rank:", "        axis = axis or 1\n        if False:", "extract/test_axes.py::test_what_is_not_known"),
    Mutant(97, "extract/network/onnx_network.py", "not _are_bytes(self.values)", "False", HUBS + "bytes_are"),
    Mutant(98, "extract/network/onnx_file.py", 'quantised(sized, depending(graph, {image.name}) - others)', "[]", HUBS + "quantised_files"),
    Mutant(95, "classify/export.py", "        _check_answers(target,", "        str(target), (", "classify/test_export.py::test_a_file_that_does_not"),
    Mutant(18, "extract/images/dataset.py", "{EXPECTED} {_without_labels(images, data)}", "{EXPECTED}", LISTED + "the_way_on"),
    Mutant(102, "features/runtime/in_the_way.py", "            if file.is_file():", "            if False:", "features/test_cli.py::test_a_module_of"),
    Mutant(102, "features/find.py", 'if told := in_the_way("extract"):', 'if told := "":', "features/test_cli.py::test_modules_that"),
    Mutant(104, "features/runtime/names.py", "SPELLINGS: tuple[Callable[[str], str], ...] = (str, composed, _folded)", "SPELLINGS: tuple[Callable[[str], str], ...] = (str, str.casefold)", "features/test_spellings.py::test_a_path_that_is"),
    Mutant(104, "features/runtime/names.py", "if len(paths) == 1}", "if paths}", "features/test_spellings.py::test_a_path_that_could"),
    Mutant(104, "extract/images/corrections.py", "same_name(entry.label, known)", "entry.label", "extract/test_corrections.py::test_names_of"),
    Mutant(105, "features/runtime/names.py", "if rank == max(ranks.values())", "if rank", "features/test_spellings.py::test_the_folder_elsewhere"),
    Mutant(105, "features/runtime/names.py", "(is_absolute or _is_named(folder, root)) and ", "", "features/test_spellings.py::test_a_path_that_is"),
    Mutant(106, "extract/images/decode.py", "        return len(tiff.pages(data)) > 1\n", "        return False\n", IMAGES + "a_tiff_whose"),
    Mutant(106, "extract/images/tiff.py", "if WIDTH in tags and not (seen and other) else []", "", TIFFS + "pages"),
    Mutant(106, "extract/images/tiff.py", "complaint(data, directory)", "complaint(data)", TIFFS + "a_damaged_page"),
    Mutant(107, "extract/compute/remarks.py", "elif high <= DARK * white:", "elif False:", IMAGES + "greys_of"),
    Mutant(107, "extract/compute/rebuild.py", "white=self.recipe.white), self", "), self", IMAGES + "greys_of"),
    Mutant(107, "extract/compute/remarks.py", "if is_grey and self._white and high > self._white:", "if False:", IMAGES + "greys_of"),
    Mutant(107, "extract/images/colour.py", "        high = min(high, white)\n", "", COLOURS + "a_white"),
    Mutant(103, "features/runtime/cli.py", 'if sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):', "if True:", PREDICTED + "a_table_is"),
    Mutant(91, "features/hdf5.py", 'h5py.File(_Bytes(os.open(path, os.O_RDONLY | BINARY)), "r", **how)', 'h5py.File(path, "r", **how)', "features/test_hdf5.py::test_a_lock_that"),
    Mutant(91, "features/hdf5.py", 'h5py.File(_Bytes(os.open(path, os.O_RDONLY | BINARY)), "r", **how)', 'h5py.File(path, "r", locking=False, **how)', "features/test_hdf5.py::test_a_stack_that_a_notebook"),
    Mutant(91, "features/runtime/errors.py", 'raise Failed(f"{path} cannot be opened: {os.strerror(error.errno)}") from None', "pass", "features/test_hdf5.py::test_a_file_that_the_system"),
    Mutant(91, "features/hdf5.py", 'if mode == "r" and isinstance(name, str | os.PathLike):', "if False:", "extract/test_base.py::test_weights_that_another"),
    Mutant(91, "extract/network/base.py", "is a ZIP file\n        check_readable(file, error)\n", "is a ZIP file\n", "extract/test_base.py::test_weights_that_the_system"),
    Mutant(92, "features/runtime/lock.py", "held.enter_context(SoftFileLock(path, timeout=SOFT_WAIT))", "open(path, 'x').close()", UNLOCKED + "what_a_killed"),
    Mutant(93, "features/runtime/disk.py", 'if hasattr(os, "pwrite"):', "if True:", "features/test_disk.py::test_places_of"),
    Mutant(93, "features/runtime/disk.py", 'if hasattr(os, "preadv"):', "if True:", "features/test_disk.py::test_places_of"),
    Mutant(93, "features/runtime/disk.py", "_turn = threading.Lock()", "_turn = suppress()", "features/test_disk.py::test_places_of"),
    Mutant(94, "features/hdf5.py", "            self.failed = self.failed or error\n        return len(data)", "            raise\n        return len(data)", "features/test_hdf5.py::test_a_limit_of_size"),
    Mutant(94, "features/near_index.py", "if fresh.stat().st_size < index.serialized_length:", "if False:", "faults/test_limits.py::test_every_command"),
    Mutant(99, "extract/processors.py", "int(256 / 224 * side)", "side", "extract/test_processors.py::test_pixels"),
    Mutant(99, "extract/processors.py", "type(resample) is not int or", "", "extract/test_processors.py::test_any"),
    Mutant(99, "extract/processors.py", "isinstance(value, int | float) and not", "not", "extract/test_processors.py::test_what_is_not"),
    Mutant(100, "classify/classical/votes.py", "min(MOST, max(1, half - 1 + half % 2))", "MOST", "classify/test_neighbours.py::test_few_rows"),
    Mutant(100, "classify/fitting.py", "estimator.set_params(**OF_FEW)", "pass", "classify/test_search.py::test_trees_of_few"),
    Mutant(101, "classify/classical/memory.py", " or paired > MOST_PAIRED:", ":", "classify/test_search.py::test_pairs_of_many or told_apart"),
    Mutant(101, "classify/task.py", "        check_classes(held", "        str(held", "classify/test_search.py::test_more_classes_than"),
    Mutant(100, "classify/models.py", "return self.few if smallest < FEW else {}", "return {}", "classify/test_neighbours.py::test_few_rows"),
    Mutant(108, "classify/classical/span.py", "rank = max(rank, 1)", "pass", "classify/test_fit.py::test_rows_that_are_all_one"),
    Mutant(108, "classify/classical/products.py", "found if found > ROUNDING else 0.0", "found", "classify/test_fit.py::test_rows_that_are_all_one"),
    Mutant(108, "classify/rows.py", "spread if spread > ROUNDING else 0.0", "spread", "classify/test_fit.py::test_rows_that_are_all_one"),
    Mutant(108, "classify/classical/descent.py", "spread[spread == 0] = 1", "pass", "classify/test_fit.py::test_rows_that_are_all_one"),
    Mutant(108, "classify/across/feature_set.py", "kept[-1] = True", "pass", "classify/test_fit.py::test_rows_that_are_all_one"),
)
# fmt: on


def survives(mutant: Mutant) -> bool:
    """Whether the test passes all the same.

    Raises:
        SystemExit: the guard is no longer where the table says, or the test was not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(REPO, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "stacks", "runs", "data"))
        shutil.copytree(REPO / "tests" / "data", tree / "tests" / "data")
        text = (tree / mutant.file).read_text("utf-8")
        if text.count(mutant.guard) != 1:
            sys.exit(f"{mutant.file} holds {text.count(mutant.guard)} times: {mutant.guard}")
        (tree / mutant.file).write_text(text.replace(mutant.guard, mutant.without), "utf-8")
        file, _, name = mutant.test.partition("::")
        words = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", f"tests/{file}", "-k", name]
        env = os.environ | {"PYTHONPATH": str(tree)}
        done = subprocess.run(words, cwd=tree, env=env, capture_output=True, text=True)
    if done.returncode not in (0, 1) or " error" in done.stdout.splitlines()[-1]:
        sys.exit(f"{mutant.test} was not run:\n{done.stdout[-2000:]}")
    return done.returncode == 0


def main() -> None:
    wanted = set(map(int, sys.argv[1:]))
    survivors = 0
    for mutant in MUTANTS:
        if wanted and mutant.fault not in wanted:
            continue
        alive = survives(mutant)
        survivors += alive
        print(f"{mutant.fault:2} {'SURVIVED' if alive else 'fails'}: {mutant.test}, {mutant.file}", flush=True)
    print(f"{survivors} survived")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main()
