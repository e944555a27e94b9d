FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN make setup EXTRA=cpu
# docker build -t feature-stacks .
# docker run -v "$PWD:/data" feature-stacks features BACKBONE=scattering DATA=/data/photos OUT=/data/photos.h5
ENTRYPOINT ["make"]
