"""The commands of oras.rs: each is one thing that the oras library does, with its result as JSON on standard output."""

import json
import os
import sys
import time

import oras.client
import oras.layout
import oras.logger
import oras.oci

# The library waits up to 81 seconds between its attempts. What is refused stays refused; the tests have no time for it.
time.sleep = lambda seconds: None
oras.logger.setup_logger(quiet=True)

HOST = os.environ["ORAS_HOST"]
client = oras.client.OrasClient(hostname=HOST, insecure=bool(int(os.environ["ORAS_INSECURE"])), auth_backend=os.environ["ORAS_BACKEND"])


def login(user, password):
    # It only writes the file that every later command reads; a wrong password is noticed by the next of them.
    return client.login(username=user, password=password, hostname=HOST)


def push(name, chunked, files):
    os.chdir(os.path.dirname(files[0]))
    # 65,536 is less than the files have, so that they take several chunks.
    response = client.push(
        target=name, files=[os.path.basename(file) for file in files], do_chunked=chunked, chunk_size=65536, quiet=True
    )
    return response.headers["Docker-Content-Digest"]


def attach(name, file, media_type, digest, size):
    os.chdir(os.path.dirname(file))
    subject = oras.oci.Subject(mediaType=media_type, digest=digest, size=size)
    response = client.push(target=name, files=[os.path.basename(file)], subject=subject, quiet=True)
    return [response.headers["Docker-Content-Digest"], response.headers.get("OCI-Subject")]


def pull(name, directory):
    return client.pull(target=name, outdir=directory)


def tags(name, limit):
    prepare(name)
    return client.get_tags(name, N=limit)


def delete(name, tag):
    prepare(name)
    return client.delete_tag(name, tag)


def push_layout(directory, tag, name, chunked):
    prepare(name)
    response = oras.layout.NewLayout(directory).push_to_registry(client, name, tag=tag, do_chunked=chunked)
    return response.headers["Docker-Content-Digest"]


def pull_layout(directory, name):
    prepare(name)
    oras.layout.NewLayoutFromRegistry(directory, client, name, tag="pulled")
    return "pulled"


def prepare(name):
    """Some methods read the credentials by themselves, and the others rely on somebody having done it."""
    client.auth.load_configs(client.get_container(name))


command, *arguments = json.loads(sys.argv[1])
print(json.dumps(globals()[command](*arguments)))
