-- Redis runs Lua 5.1 without modules, files and processes, and with its own globals:
-- https://redis.io/docs/latest/develop/programmability/lua-api/
stds.redis = {
  read_globals = {
    'KEYS', 'ARGV', 'redis', 'cjson', 'cmsgpack', 'bit', 'struct',
    'assert', 'error', 'getmetatable', 'ipairs', 'next', 'pairs', 'pcall', 'rawequal', 'rawget', 'rawset', 'select',
    'setmetatable', 'tonumber', 'tostring', 'type', 'unpack', 'xpcall',
    'coroutine', 'math', 'string', 'table', os = { fields = { 'clock' } }
  }
}
std = 'redis'
max_line_length = false -- the comment that lists a script's arguments may be one long line
ignore = {
  '431', -- shadowing: a parameter of a shared function may be called like an argument of some script
  '542'  -- empty branch: with its reason in a comment it is clearer than a negated condition
}
