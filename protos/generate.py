"""Generates the Python code of the contract, and checks that contract and code agree.

    python protos/generate.py            regenerate protos/gen
    python protos/generate.py --check    fail when protos/gen is stale, when buf lint
                                         finds fault, or when the contract breaks the
                                         released one
    python protos/generate.py --release  record today's contract as the released one

Needs no network: protoc comes with grpcio-tools, buf with buf-bin, and the
protovalidate annotations are taken from the installed runtime, so that the rules are
compiled by the same version that enforces them.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import (
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    timestamp_pb2,
)
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

PROTOS = Path(__file__).resolve().parent
GENERATED = PROTOS / "gen"
RELEASED = PROTOS / "released.binpb"
VALIDATE = "buf/validate/validate.proto"


def contract_files() -> list[str]:
    """The contract's proto files, relative to protos/, in a stable order."""
    return sorted(str(p.relative_to(PROTOS)) for p in PROTOS.glob("recmesh/**/*.proto"))


def write_dependencies(path: Path) -> None:
    """Writes a descriptor set with every file the contract imports from elsewhere."""
    imported = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, timestamp_pb2):
        module.DESCRIPTOR.CopyToProto(imported.file.add())
    imported.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    path.write_bytes(imported.SerializeToString())


def run_protoc(dependencies: Path, arguments: list[str]) -> None:
    """Runs protoc over the contract. Exits with its message when it fails."""
    scripts = Path(sys.executable).parent
    plugins = [
        f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    ]
    status = protoc.main(
        ["protoc", *plugins, f"--descriptor_set_in={dependencies}", f"-I{PROTOS}", *arguments]
    )
    if status != 0:
        sys.exit("protoc failed; see its message above")


def compile_contract(dependencies: Path, image: Path) -> None:
    """Compiles the contract to one descriptor image, comments included."""
    # protoc takes either sources or a descriptor set as input, so the dependencies
    # become sources' peers by merging the two sets afterwards.
    run_protoc(
        dependencies,
        ["--include_source_info", f"--descriptor_set_out={image}", *contract_files()],
    )
    merged = descriptor_pb2.FileDescriptorSet.FromString(dependencies.read_bytes())
    merged.MergeFromString(image.read_bytes())
    image.write_bytes(merged.SerializeToString())


def generate(into: Path) -> None:
    """Writes all generated code below ``into``."""
    with tempfile.TemporaryDirectory() as scratch:
        dependencies = Path(scratch) / "dependencies.binpb"
        write_dependencies(dependencies)
        run_protoc(
            dependencies,
            [
                f"--python_out={into}",
                f"--grpc_python_out={into}",
                f"--mypy_out={into}",
                f"--mypy_grpc_out={into}",
                *contract_files(),
            ],
        )
        run_protoc(dependencies, [f"--python_out={into}", f"--mypy_out={into}", VALIDATE])
    (into / "recmesh/v1/py.typed").touch()
    (into / "buf/validate/py.typed").touch()


def differences(left: Path, right: Path) -> list[str]:
    """Relative paths of files that differ or stand on one side only."""
    names = {
        str(p.relative_to(root))
        for root in (left, right)
        for p in root.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    return sorted(
        name
        for name in names
        if not (left / name).is_file()
        or not (right / name).is_file()
        or not filecmp.cmp(left / name, right / name, shallow=False)
    )


def buf(*arguments: str) -> None:
    """Runs buf. Exits with its findings when there are any."""
    binary = shutil.which("buf", path=str(Path(sys.executable).parent)) or "buf"
    finished = subprocess.run(
        [binary, *arguments], cwd=PROTOS, capture_output=True, text=True, check=False
    )
    if finished.returncode != 0:
        sys.exit(f"buf {arguments[0]} failed:\n{finished.stdout}{finished.stderr}")


def check() -> None:
    """Exits with a message unless code, style and compatibility all hold."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "gen"
        fresh.mkdir()
        generate(fresh)
        stale = differences(fresh, GENERATED)
        if stale:
            sys.exit(
                "generated code is stale: " + ", ".join(stale) + "\nrun: python protos/generate.py"
            )
        dependencies = Path(scratch) / "dependencies.binpb"
        image = Path(scratch) / "contract.binpb"
        write_dependencies(dependencies)
        compile_contract(dependencies, image)
        buf("lint", str(image), "--config", str(PROTOS / "buf.yaml"))
        buf(
            "breaking",
            str(image),
            "--against",
            str(RELEASED),
            "--config",
            str(PROTOS / "buf.yaml"),
        )
    print("contract: generated code current, lint clean, compatible with the released one")


def release() -> None:
    """Records today's contract as the one that later versions must not break."""
    with tempfile.TemporaryDirectory() as scratch:
        dependencies = Path(scratch) / "dependencies.binpb"
        write_dependencies(dependencies)
        compile_contract(dependencies, RELEASED)
    print(f"released contract recorded in {RELEASED.relative_to(PROTOS.parent)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="check, write nothing")
    mode.add_argument("--release", action="store_true", help="record the released contract")
    arguments = parser.parse_args()
    if arguments.check:
        check()
    elif arguments.release:
        release()
    else:
        shutil.rmtree(GENERATED, ignore_errors=True)
        GENERATED.mkdir()
        generate(GENERATED)
        print(f"generated {len(contract_files())} files' code in protos/gen")


if __name__ == "__main__":
    main()
