# Onepath in a container; docs/docker.md says how to use it.
#   docker build -t onepath .                             for CPUs
#   docker build -t onepath --build-arg DEVICE=cuda .     for NVIDIA GPUs
# Other build arguments: PYTHON=3.11, 3.12 or 3.13; USER_ID, who owns what the container writes.
ARG PYTHON=3.13
FROM python:${PYTHON}-slim-bookworm
ARG DEVICE=cpu
ARG USER_ID=1000

# make sets up. What NNI's manager, torch and DALI need else is in their wheels, or in the image.
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/* && \
    useradd --create-home --uid "$USER_ID" onepath && \
    install --directory --owner=onepath /onepath /onepath/runs /images
USER onepath
WORKDIR /onepath

# Dependencies first: they are installed anew only where these files change. PyPI's torch brings CUDA, PyTorch's own index
# has one of the same version without it, which pip prefers where it sees both.
COPY --chown=onepath Makefile pyproject.toml constraints.txt README.md LICENSE ./
RUN if [ "$DEVICE" = cpu ]; then export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu; fi && \
    PIP_NO_CACHE_DIR=1 make setup
COPY --chown=onepath . .

# NNI's portal has to listen on the container's address for the port to be published; trials.search then draws a token and
# prints the portal's address with it.
ENV PATH=/onepath/.venv/bin:$PATH \
    NNI_LISTEN_HOST=0.0.0.0
EXPOSE 8080
VOLUME ["/onepath/runs", "/images"]
ENTRYPOINT ["./onepath"]
CMD ["--help"]
