-- Adds a socket to those of a session, unless they are as many as allowed in all web processes together.
-- `sockets` is a hash: the field is the channel of the socket's process, a slash and a number; the value is 1.
if not exists() then
  redis.call('DEL', sockets)
  return 'gone'
end
local limit = tonumber(most)

local function is_full()
  return redis.call('HLEN', sockets) >= limit
end

local function channel_of(name)
  return string.match(name, '^[^/]+')
end

-- A process subscribes to its channel for as long as it lives. This one lives, even while it is reconnecting.
local function remove_dead_processes()
  local alive = {[channel_of(field)] = true}
  for _, name in ipairs(redis.call('HKEYS', sockets)) do
    local channel = channel_of(name)
    if alive[channel] == nil then
      alive[channel] = redis.call('PUBSUB', 'NUMSUB', channel)[2] > 0
    end
    if not alive[channel] then
      redis.call('HDEL', sockets, name)
    end
  end
end

if redis.call('HEXISTS', sockets, field) == 0 then
  if is_full() then
    remove_dead_processes()
    if is_full() then
      return 'full'
    end
  end
  redis.call('HSET', sockets, field, 1)
  expire_with_session(sockets)
end
return 'added'
