-- A new session.
-- ARGV: document as JSON, time to live in ms
redis.call('JSON.SET', document, '$', ARGV[1])
touch(ARGV[2])
return 'created'
