-- Counts the sockets of a session, of which each web process tells how many it has. Without a bound it only notes that.
-- ARGV: channel of the process, how many it would have, most in all or ''
if not exists() then
  redis.call('DEL', sockets)
  return 'gone'
end
local own, count, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local others = 0
if most then
  local function add_up(alive)
    local counts = redis.call('HGETALL', sockets)
    others = 0
    for i = 1, #counts, 2 do
      if counts[i] == own then
        -- Known better.
      elseif alive and redis.call('PUBSUB', 'NUMSUB', counts[i])[2] == 0 then
        -- Nobody listens to the channel of a process that is dead.
        redis.call('HDEL', sockets, counts[i])
      else
        others = others + counts[i + 1]
      end
    end
  end
  add_up(false)
  if others + count > most then
    add_up(true)
  end
end
local taken = not most or others + count <= most
if not taken then
  count = count - 1
end
if count > 0 then
  redis.call('HSET', sockets, own, count)
  redis.call('PEXPIRE', sockets, redis.call('PTTL', document))
else
  redis.call('HDEL', sockets, own)
end
return taken and 'taken' or 'full'
