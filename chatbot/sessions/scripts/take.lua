-- Takes a part of the tokens of an address's buckets for a session in another partition: 0, or the ms until there are
-- enough.
return take_tokens(tonumber(share))
