"""A server that answers every request with {}, as much of NNI's manager as one sees who only knocks.

python -m tests.answering_server PORT SECONDS    it begins after so many seconds
"""

import http.server
import sys
import time


class Answer(http.server.BaseHTTPRequestHandler):
    """The answer to one request."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


if __name__ == "__main__":
    time.sleep(float(sys.argv[2]))
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
