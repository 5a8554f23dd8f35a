-- Stores the document of a new session that has messages already, unless one of the buckets lacks tokens. `further` is JSON:
-- the fields of `index`, `state` and `failed`, each followed by its value, and the elements of `turns`.
local wait = take_tokens()
if wait > 0 then
  return {'limited', wait}
end

-- A call takes so many arguments at most.
local most = 4000
local function fill(command, key, values)
  for first = 1, #values, most do
    redis.call(command, key, unpack(values, first, math.min(first + most - 1, #values)))
  end
end

redis.call('JSON.SET', document, '$', content)
local parts = cjson.decode(further)
fill('HSET', index, parts.index)
fill('HSET', state, parts.state)
fill('HSET', failed, parts.failed)
fill('RPUSH', turns, parts.turns)
if max_age_ms ~= '0' then
  redis.call('HSET', state, 'ends', now() + max_age_ms)
end
touch()
return {'imported'}
