# The package and its configs, for training: docker build -f export/train.Dockerfile -t r2n2-keras .
FROM python:3.12-slim
WORKDIR /r2n2_keras
COPY . .
RUN pip install --no-cache-dir -c constraints.txt .
