-- wrk: sends every request of a file exactly once and stops when there are no more.
-- The file is what bench/messages.py writes: eight digits of length, a line feed, the bytes of the request.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  exhausted, refused, first_status, odd, kept = 0, 0, 0, 0, 0
  closing = args[2] == "close"
  file = assert(io.open(args[1], "rb"))
  file:setvbuf("full", 1048576)
end

function request()
  local length = file:read(9)
  if not length then
    exhausted = 1
    wrk.thread:stop()
    return ""
  end
  return file:read(tonumber(length))
end

local function closes(headers)
  for name, value in pairs(headers) do
    if name:lower() == "connection" and value:lower() == "close" then return true end
  end
  return false
end

function response(status, headers, body)
  if status < 200 or status > 299 then
    refused = refused + 1
    if first_status == 0 then first_status = status end
  elseif body ~= "success" then
    odd = odd + 1
  end
  if closing and not closes(headers) then kept = kept + 1 end
end

function done(summary, latency, requests)
  local errors, thread = summary.errors, threads[1]
  io.write(string.format(
    '\nRESULT {"requests":%d,"seconds":%.6f,"p50_ms":%.4f,"p99_ms":%.4f,"refused":%d,"first_status":%d,"odd":%d,'
      .. '"kept":%d,"exhausted":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    thread:get("refused"), thread:get("first_status"), thread:get("odd"), thread:get("kept"), thread:get("exhausted"),
    errors.connect, errors.read, errors.write, errors.timeout))
end
