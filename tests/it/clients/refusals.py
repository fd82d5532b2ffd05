import http.client, json, ssl, sys
# URL METHOD PATH BYTES TIMES CHUNKED HEADER…: how often each status came
url, method, path, size, times, chunked = sys.argv[1:7]
headers = dict(header.split(": ", 1) for header in sys.argv[7:])
scheme, host = url.split("://")
seen = {}
for _ in range(int(times)):
    if scheme == "https":
        connection = http.client.HTTPSConnection(host, timeout=30, context=ssl._create_unverified_context())
    else:
        connection = http.client.HTTPConnection(host, timeout=30)
    body = bytes(int(size))
    try:
        if chunked == "chunked":
            pieces = (body[i:i + 65536] for i in range(0, len(body), 65536))
            connection.request(method, path, pieces, headers, encode_chunked=True)
        else:
            connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = str(response.status) if response.read() else "no body"
    except Exception as error:
        answer = repr(error)
    connection.close()
    seen[answer] = seen.get(answer, 0) + 1
print(json.dumps(seen))
