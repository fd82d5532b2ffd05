// URL METHOD PATH BYTES TIMES CHUNKED HEADER…: how often each status came
const [url, method, path, size, times, chunked, ...lines] = process.argv.slice(2);
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
const { request, Agent } = require(url.startsWith('https') ? 'https' : 'http');
const headers = Object.fromEntries(lines.map((line) => line.split(': ')));
if (chunked !== 'chunked') headers['Content-Length'] = size;
const body = Buffer.alloc(Number(size));
const once = () => new Promise((resolve) => {
  const asked = request(url + path, { method, headers, agent: new Agent({ keepAlive: false }) }, (response) => {
    let count = 0;
    response.on('data', (data) => { count += data.length; });
    response.on('end', () => { resolve(count ? String(response.statusCode) : 'no body'); asked.destroy(); });
    response.on('error', (error) => resolve(error.message));
  });
  asked.on('error', (error) => resolve(error.message));
  asked.end(body);
});
(async () => {
  const seen = {};
  for (let i = 0; i < Number(times); i += 1) {
    const answer = await once();
    seen[answer] = (seen[answer] || 0) + 1;
  }
  process.stdout.write(`${JSON.stringify(seen)}\n`);
})();
