-- The address's part of the admission of a request whose session is in another partition: room in the line, and tokens
-- of the address's buckets. Takes them, and the session enters the line, or refuses. `give_back` takes that back.
local wait, too_long, ms = expected_wait(true)
if too_long then
  return {'behind', math.ceil(ms)}
end
local refill = take_tokens()
if refill > 0 then
  return {'limited', refill}
end
return {'admitted', math.floor(wait or 0), enter_line(now()) and 1 or 0}
