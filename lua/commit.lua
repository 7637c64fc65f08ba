-- commit: applies the result of a stage, the new recovery point and the response, in one step. This script is where
-- the promise is kept: the record's token, its fence and its revision must be the ones the claim handed out. The lock
-- has no say: finished work that nobody else claimed is kept, however late it comes.
--
-- KEYS[1] record   KEYS[2] lock
-- ARGV[1] token   ARGV[2] fence   ARGV[3] the revision this commit extends
-- ARGV[4] attempts of this revision   ARGV[5] attempts, as the claim told them both
-- ARGV[6] flags: 'k', keep the lease for the next stage; 'd', the caller waits for replicas, so a reply about an older
--         write must be a write too
-- ARGV[7] lease in milliseconds   ARGV[8] retention in milliseconds
-- ARGV[9] the recovery point the stage started from
-- ARGV[10...] field, value, ... to write
--
-- Replies
--   OK       token, '1' if the lease is still held and '0' if not, server time of the commit in microseconds
--   FENCED   token: the result is not stored and never will be
--   FORGOTTEN token: the revision is older than the journal remembers, nobody can tell
--   DAMAGED  token, what is wrong
--
-- Safe to repeat: yes. The journal names who committed a revision; a repeated commit gets OK and writes nothing.
-- redis.call: 5 when the lease ends (HMGET, GET, TIME, HSET, DEL; PEXPIRE in place of DEL when it had lapsed), 6 when it
-- is kept (SET and PEXPIRE in place of DEL); one more once the journal is full (HDEL), and two when somebody waits
-- (PUBLISH, HDEL); 2 or 3 for a repeated commit, 1 for FENCED.
local token, fence, revision = ARGV[1], ARGV[2], ARGV[3]

local r = redis.pcall('HMGET', KEYS[1], 'control', 'waiting')
if r.err then
  return {'DAMAGED', token, r.err}
end
local control = r[1]
if not control then
  if redis.call('EXISTS', KEYS[1]) == 1 then
    return {'DAMAGED', token, 'the hash has no schema version'}
  end
  return {'FENCED', token}
end

local mine = '1 ' .. revision .. ' ' .. token .. ' ' .. fence .. ' '
if string.sub(control, 1, #mine) ~= mine then
  if string.sub(control, 1, 2) ~= '1 ' then
    return {'DAMAGED', token, 'unknown schema version'}
  end
  local current, owner, last = string.match(control, '^1 (%d+) (%S+) (%d+) ')
  if not current then
    return {'DAMAGED', token, 'control cannot be read'}
  end
  if tonumber(current) <= tonumber(revision) then
    return {'FENCED', token}
  end
  local entry = redis.call('HGET', KEYS[1], 'j:' .. revision)
  if not entry then
    return {'FORGOTTEN', token}
  end
  local t, f, _, at = string.match(entry, '^(%S*) (%d+) (%d+) (%d+) ')
  if t ~= token or f ~= fence then
    return {'FENCED', token}
  end
  if string.find(ARGV[6], 'd', 1, true) then
    redis.call('PEXPIREAT', KEYS[1], redis.call('PEXPIRETIME', KEYS[1]))
  end
  local held = '0'
  if owner == token and last == fence and redis.call('GET', KEYS[2]) == token then
    held = '1'
  end
  return {'OK', token, held, at}
end

local holder = redis.call('GET', KEYS[2])
local time = redis.call('TIME')
-- As text: numbers of that size cost more to write than to join.
local now = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
local entry = token .. ' ' .. fence .. ' ' .. ARGV[4] .. ' ' .. now .. ' ' .. ARGV[9]
local nextRevision = string.format('%d', revision + 1)
if string.find(ARGV[6], 'k', 1, true) and (holder == token or not holder) then
  local spent = string.match(control, '%S+$')
  redis.call('HSET', KEYS[1], 'control', '1 ' .. nextRevision .. ' ' .. token .. ' ' .. fence .. ' 1 ' .. ARGV[5] .. ' '
    .. ARGV[7] .. ' ' .. spent, 'j:' .. revision, entry, unpack(ARGV, 10))
  redis.call('SET', KEYS[2], token, 'PX', ARGV[7])
  redis.call('PEXPIRE', KEYS[1], ARGV[7] + ARGV[8], 'GT')
  if tonumber(revision) >= 64 then
    redis.call('HDEL', KEYS[1], 'j:' .. string.format('%d', revision - 64))
  end
  return {'OK', token, '1', now}
end

redis.call('HSET', KEYS[1], 'control', '1 ' .. nextRevision .. ' - ' .. fence .. ' 0 ' .. ARGV[5] .. ' ' .. ARGV[7] .. ' '
  .. token, 'j:' .. revision, entry, unpack(ARGV, 10))
if holder == token then
  -- The claim or a renewal within the last lease has made sure that the record outlives the retention from now on.
  redis.call('DEL', KEYS[2])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[8], 'GT')
end
if tonumber(revision) >= 64 then
  redis.call('HDEL', KEYS[1], 'j:' .. string.format('%d', revision - 64))
end
if r[2] then
  redis.call('HDEL', KEYS[1], 'waiting')
  for channel in string.gmatch(r[2], '%S+') do
    redis.pcall('PUBLISH', channel, KEYS[1])
  end
end
return {'OK', token, '0', now}
