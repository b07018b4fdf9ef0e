# The workflow itself, as the CronJobs run it. No Java: Spark is that of SPARK_REMOTE. Context: the project's root.
ARG PYTHON_IMAGE=python:3.12.12-slim-bookworm
FROM ${PYTHON_IMAGE}

COPY conda.yaml /opt/
RUN sed -n '/- pip:$/,$ s/^ *- \([^ ]*==.*\)/\1/p' /opt/conda.yaml >/opt/pins.txt && \
    pip install --no-cache-dir --requirement /opt/pins.txt

COPY MLproject main.py conda.yaml /opt/project/
COPY configs /opt/project/configs
COPY steps /opt/project/steps
RUN useradd --create-home --uid 10001 workflow
USER workflow
WORKDIR /home/workflow
ENV PYTHONPATH=/opt/project PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-m", "steps"]
