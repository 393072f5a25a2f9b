-- Every request asks something else, so that no cache of answers or decisions helps. Arguments: model, key, "stream" or "whole".
local words = {"flexbox", "a modal", "useEffect", "an index", "a form", "the cache", "a migration", "focus", "a token", "the bundle"}
local model, key, stream, thread_count = "", "", "", 0

function setup(thread)
  thread:set("id", thread_count)
  thread_count = thread_count + 1
end

function init(args)
  model, key, stream = args[1], args[2], args[3] == "stream" and ',"stream":true' or ""
  math.randomseed(os.time() + id * 7919)
  count = 0
  headers = {["content-type"] = "application/json", ["authorization"] = "Bearer " .. key}
end

function request()
  count = count + 1
  local prompt = string.format("how do I fix %s in page %d-%d-%d, it breaks when %s changes?", words[count % 10 + 1], id, count,
    math.random(1000000000), words[math.random(10)])
  local body = string.format('{"model":"%s","messages":[{"role":"user","content":"%s"}]%s}', model, prompt, stream)
  return wrk.format("POST", "/v1/chat/completions", headers, body)
end

function response(status, _, body)
  if status ~= 200 then errors = (errors or 0) + 1 end
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format('{"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "not_200": %d, "broken": %d}\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, e.status, e.connect + e.read + e.write + e.timeout))
end
