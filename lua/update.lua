-- update: writes fields of a record that nobody is working on, as a revision of its own.
--
-- KEYS[1] record   KEYS[2] lock
-- ARGV[1] token of this update   ARGV[2] the revision the caller has seen
-- ARGV[3] retention in milliseconds   ARGV[4] how many revisions the journal remembers
-- ARGV[5...] field, value, ... to write
--
-- Replies
--   OK      token, server time of the update in microseconds
--   BUSY    token, remaining time of the lock in milliseconds
--   DONE    token: a finished record never changes
--   MOVED   token: the revision is another one
--   GONE    token
--   DAMAGED token, what is wrong
--
-- Safe to repeat: yes. The journal names the token; a repeated update gets OK and writes nothing.
-- redis.call: 5 (HMGET, PTTL, TIME, HSET, PEXPIRE), one more once the journal is full (HDEL).
local token, revision = ARGV[1], ARGV[2]

local r = redis.pcall('HMGET', KEYS[1], 'v', 'revision', 'fence', 'recovery_point', 'j:' .. revision)
if r.err then
  return {'DAMAGED', token, r.err}
end
if not r[1] then
  if redis.call('EXISTS', KEYS[1]) == 1 then
    return {'DAMAGED', token, 'the hash has no schema version'}
  end
  return {'GONE', token}
end
if r[1] ~= '1' then
  return {'DAMAGED', token, 'unknown schema version'}
end
local fence = tonumber(r[3] or '0')
if not tonumber(r[2] or '') or not fence then
  return {'DAMAGED', token, 'a counter is not a number'}
end
if r[5] then
  local t, at = string.match(r[5], '^(%S*) %d+ %d+ (%d+) ')
  if t == token then
    return {'OK', token, at}
  end
end
if r[4] == 'finished' then
  return {'DONE', token}
end
if r[2] ~= revision then
  return {'MOVED', token}
end
local left = redis.call('PTTL', KEYS[2])
if left ~= -2 then
  return {'BUSY', token, tostring(left)}
end

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local guard = string.format('%.0f', fence + 1)
local wanted = tonumber(revision)
redis.call('HSET', KEYS[1], 'revision', string.format('%.0f', wanted + 1), 'updated_at', now,
  'j:' .. revision, token .. ' ' .. guard .. ' 0 ' .. now .. ' ' .. (r[4] or ''),
  'stage_attempts', '0', 'token', '', 'fence', guard, unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ARGV[3], 'GT')
if wanted >= tonumber(ARGV[4]) then
  redis.call('HDEL', KEYS[1], 'j:' .. string.format('%.0f', wanted - ARGV[4]))
end
return {'OK', token, now}
