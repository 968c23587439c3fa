#!/usr/bin/env python3
"""CPU per answered request: Cutover, nginx and HAProxy, measured in turn on this machine.

One proxy at a time, one worker, pinned to one core; the load (wrk) and the backend (nginx) on
another one. The figure is the run time of all threads of the proxy (/proc/PID/task/*/schedstat)
divided by the answered requests. Rounds are interleaved; medians and ratios are printed. All do the
same work: parse, choose an upstream by weight, keep Host, add X-Forwarded-For, keep upstream
connections, no access log.

    bench/compare.py [--rounds 3] [--seconds 4] [--binary target/release/examples/bench_proxy]
"""

import argparse
import glob
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

PROXY_CORE, LOAD_CORE = "0", "1"

BACKEND = """
daemon off; master_process off; pid {dir}/backend.pid; error_log {dir}/backend.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; sendfile on; tcp_nopush on;
  client_body_temp_path {dir}/b1; proxy_temp_path {dir}/b2; fastcgi_temp_path {dir}/b3;
  uwsgi_temp_path {dir}/b4; scgi_temp_path {dir}/b5;
  server {{
    listen 127.0.0.1:{one} reuseport; listen 127.0.0.1:{two} reuseport; root {dir}/files;
    location = / {{ return 200 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"; }}
  }}
}}
"""

NGINX = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; tcp_nodelay on;
  proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;
  client_body_temp_path {dir}/n1; proxy_temp_path {dir}/n2; fastcgi_temp_path {dir}/n3;
  uwsgi_temp_path {dir}/n4; scgi_temp_path {dir}/n5;
  upstream app {{ server 127.0.0.1:{one} weight=9; server 127.0.0.1:{two} weight=1; keepalive 128;
    keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} deferred;
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 3s
  timeout http-request 10s
  option splice-auto
frontend in
  bind 127.0.0.1:{port} defer-accept
  option forwardfor
  default_backend app
backend app
  http-reuse safe
  server one 127.0.0.1:{one} weight 90
  server two 127.0.0.1:{two} weight 10
"""

WORKS = {
    "keep-alive, small": ["-c", "32", "http://{target}/"],
    "new connection each": ["-c", "32", "-H", "Connection: close", "http://{target}/"],
    "keep-alive, 64 KiB": ["-c", "16", "http://{target}/64k"],
    "keep-alive, 10 MiB": ["-c", "4", "http://{target}/10m"],
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


def cpu_ns(pid):
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            with open(path) as stat:
                total += int(stat.read().split()[0])
        except FileNotFoundError:
            pass
    return total


def start(core, command, **more):
    return subprocess.Popen(
        ["taskset", "-c", core, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more
    )


def stop(process):
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def load(target, work, seconds):
    arguments = [part.format(target=target) for part in WORKS[work]]
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t", "1", "-d", f"{seconds}s", *arguments]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    bad = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    return requests, bad, text


def write(folder, name, text, **values):
    path = os.path.join(folder, name)
    with open(path, "w") as out:
        out.write(text.format(dir=folder, **values))
    return path


def commands(folder, binary, one, two):
    port = free_port()
    yield "cutover", port, [binary, f"127.0.0.1:{port}", f"127.0.0.1:{one}", f"127.0.0.1:{two}"]
    if shutil.which("nginx"):
        port = free_port()
        path = write(folder, "nginx.conf", NGINX, port=port, one=one, two=two)
        yield "nginx", port, ["nginx", "-c", path]
    if shutil.which("haproxy"):
        port = free_port()
        path = write(folder, "haproxy.cfg", HAPROXY, port=port, one=one, two=two)
        yield "haproxy", port, ["haproxy", "-db", "-f", path]


def measure(name, port, command, work, seconds):
    process = start(PROXY_CORE, command, stdin=subprocess.PIPE)
    try:
        wait_for(port)
        target = f"127.0.0.1:{port}"
        load(target, work, 1)
        before = cpu_ns(process.pid)
        requests, bad, text = load(target, work, seconds)
        spent = cpu_ns(process.pid) - before
        if bad:
            print(f"{name}: {bad} bad answers\n{text}", file=sys.stderr)
        return spent / 1000 / max(requests, 1), requests / seconds
    finally:
        stop(process)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--binary", default="target/release/examples/bench_proxy")
    parser.add_argument("--work", action="append", choices=list(WORKS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/files")
        for name, size in (("64k", 64 << 10), ("10m", 10 << 20)):
            with open(f"{folder}/files/{name}", "wb") as out:
                out.write(os.urandom(size))
        os.chmod(folder, 0o755)
        one, two = free_port(), free_port()
        backend = start(LOAD_CORE, ["nginx", "-c", write(folder, "backend.conf", BACKEND, one=one, two=two)])
        try:
            wait_for(one)
            for work in options.work or WORKS:
                results = {}
                for _ in range(options.rounds):
                    for name, port, command in commands(folder, options.binary, one, two):
                        results.setdefault(name, []).append(
                            measure(name, port, command, work, options.seconds)
                        )
                print(f"\n{work}")
                # Ratios are paired within a round, so that a noisy machine weighs less.
                ours = [cpu for cpu, _ in results["cutover"]]
                for name, rows in results.items():
                    cpu = statistics.median(cpu for cpu, _ in rows)
                    rate = statistics.median(rate for _, rate in rows)
                    ratio = statistics.median(a / b for a, (b, _) in zip(ours, rows))
                    print(f"  {name:<10}{cpu:9.1f} us of CPU a request {rate:9.0f} a second   cutover/{name} {ratio:.2f}")
        finally:
            stop(backend)


if __name__ == "__main__":
    main()
