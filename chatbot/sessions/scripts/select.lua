-- Shows the path through a message, down to the newest message below it, and publishes its end: the leaf.
if not exists() then
  return {'gone'}
end
local turn, human = turn_of(message)
if not turn then
  return {'unknown'}
end
local _, gone_turns = trimmed()
local last = last_turn()

-- Runs of turns that each follow the one before; the runs begin at the branches. Answers each run's first turn, and for
-- all but the oldest what `branch` answers.
local function runs()
  local firsts, found = {}, {{gone_turns}}
  for number in string.gmatch(redis.call('HGET', state, 'branches') or '', '%d+') do
    if tonumber(number) >= gone_turns then
      firsts[#firsts + 1] = '^' .. number
    end
  end
  for start = 1, #firsts, 1000 do
    local fields = {unpack(firsts, start, math.min(start + 999, #firsts))}
    for i, stored in ipairs(redis.call('HMGET', index, unpack(fields))) do
      local parent, first = string.match(stored or '', '^(%-?%d+):?(%d*)')
      found[#found + 1] = {tonumber(string.sub(fields[i], 2)), tonumber(parent or -1), tonumber(first)}
    end
  end
  return found
end

-- The number of the run that holds a turn.
local function run_of(all, wanted)
  local low, high = 1, #all
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if all[middle][1] <= wanted then
      low = middle
    else
      high = middle - 1
    end
  end
  return low
end

-- The newest turn that is below the message: in its own run or in one that branches off below it.
local function newest_below()
  local all = runs()
  local own, below, newest = run_of(all, turn), {}, turn
  for i = own, #all do
    local _, parent, first = unpack(all[i])
    local under = i == own
    if not under then
      local from = parent >= turn and run_of(all, parent)
      under = human and first == turn or from and below[from]
    end
    if under then
      below[i] = true
      newest = (all[i + 1] and all[i + 1][1] or last + 1) - 1
    end
  end
  return newest
end

local shown = newest_below()
if shown == last then
  redis.call('HDEL', state, 'leaf')
else
  redis.call('HSET', state, 'leaf', shown .. ':' .. last)
end
redis.call('HSET', state, 'selected', publish('{"type":"selected","id":' .. leaf_json() .. '}'))
touch()
return {'selected'}
