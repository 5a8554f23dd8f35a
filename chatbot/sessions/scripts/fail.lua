-- Records and publishes that a message gets no reply unless the user retries it, and settles the message. `failure` is
-- the text shown to the user.
if not may_settle() then
  return {rejection()}
end
redis.call('HSET', failed, message, failure)
publish(frame, nil, trace)
return settle()
