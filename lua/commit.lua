-- commit: applies the result of a stage, the new recovery point and the response, in one step. This script is where
-- the promise is kept: the record's token, its fence and its revision must be the ones the claim handed out. The lock
-- has no say: finished work that nobody else claimed is kept, however late it comes.
--
-- KEYS[1] record   KEYS[2] lock
-- ARGV[1] token   ARGV[2] fence   ARGV[3] the revision this commit extends
-- ARGV[4] '1': keep the lease for the next stage; '0': the lease ends here
-- ARGV[5] lease in milliseconds   ARGV[6] retention in milliseconds
-- ARGV[7] how many revisions the journal remembers
-- ARGV[8] '1': the caller waits for replicas, so a reply about an older write must be a write too
-- ARGV[9...] field, value, ... to write
--
-- Replies
--   OK       token, '1' if the lease is still held and '0' if not, server time of the commit in microseconds
--   FENCED   token: the result is not stored and never will be
--   FORGOTTEN token: the revision is older than the journal remembers, nobody can tell
--   DAMAGED  token, what is wrong
--
-- Safe to repeat: yes. The journal names who committed a revision; a repeated commit gets OK and writes nothing.
-- redis.call: 6 when the lease ends (HMGET, TIME, HSET, PEXPIRE, GET, DEL), 6 when it is kept (SET in place of DEL), one more once
-- the journal is full (HDEL); 2 or 3 for a repeated commit, 1 for FENCED.
local token, fence, revision, keep = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local r = redis.pcall('HMGET', KEYS[1], 'v', 'revision', 'token', 'fence', 'recovery_point', 'stage_attempts')
if r.err then
  return {'DAMAGED', token, r.err}
end
if not r[1] then
  if redis.call('EXISTS', KEYS[1]) == 1 then
    return {'DAMAGED', token, 'the hash has no schema version'}
  end
  return {'FENCED', token}
end
if r[1] ~= '1' then
  return {'DAMAGED', token, 'unknown schema version'}
end
local current = tonumber(r[2] or '')
if not current then
  return {'DAMAGED', token, 'revision is not a number'}
end

local wanted = tonumber(revision)
if current > wanted then
  local entry = redis.call('HGET', KEYS[1], 'j:' .. revision)
  if not entry then
    return {'FORGOTTEN', token}
  end
  local t, f, _, at = string.match(entry, '^(%S*) (%d+) (%d+) (%d+) ')
  if t ~= token or f ~= fence then
    return {'FENCED', token}
  end
  if ARGV[8] == '1' then
    redis.call('PEXPIREAT', KEYS[1], redis.call('PEXPIRETIME', KEYS[1]))
  end
  local held = '0'
  if r[3] == token and r[4] == fence and redis.call('GET', KEYS[2]) == token then
    held = '1'
  end
  return {'OK', token, held, at}
end
if current < wanted or r[3] ~= token or r[4] ~= fence then
  return {'FENCED', token}
end

local holder = redis.call('GET', KEYS[2])
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local entry = token .. ' ' .. fence .. ' ' .. (r[6] or '0') .. ' ' .. now .. ' ' .. (r[5] or '')
local held = keep == '1' and (holder == token or not holder)
if held then
  redis.call('HSET', KEYS[1], 'revision', string.format('%.0f', wanted + 1), 'updated_at', now, 'j:' .. revision, entry,
    'stage_attempts', '1', unpack(ARGV, 9))
  redis.call('SET', KEYS[2], token, 'PX', ARGV[5])
  redis.call('PEXPIRE', KEYS[1], ARGV[5] + ARGV[6], 'GT')
else
  redis.call('HSET', KEYS[1], 'revision', string.format('%.0f', wanted + 1), 'updated_at', now, 'j:' .. revision, entry,
    'stage_attempts', '0', 'token', '', 'spent', token, unpack(ARGV, 9))
  redis.call('PEXPIRE', KEYS[1], ARGV[6], 'GT')
  if holder == token then
    redis.call('DEL', KEYS[2])
  end
end
if wanted >= tonumber(ARGV[7]) then
  redis.call('HDEL', KEYS[1], 'j:' .. string.format('%.0f', wanted - ARGV[7]))
end
return {'OK', token, held and '1' or '0', now}
