package protocol

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// Audit says who does something to a key, and why.
type Audit struct {
	Act           string // what is done, such as "unlock"
	Actor, Reason string
}

const (
	// auditLength is about how many entries each shard keeps. The server removes whole blocks of
	// entries, so there may be a hundred more.
	auditLength = 256
	// auditLife is how long a shard keeps its entries after the last one.
	auditLife = 400 * 24 * time.Hour
	// auditBatch is how many streams are read with one request.
	auditBatch = 64
)

// auditStream returns the Redis key of the audit stream in the record's shard.
func (id Identity) auditStream() string { return AuditStream(id.prefix()) }

// AuditStream returns the Redis key of the audit stream in the shard with this prefix.
func AuditStream(prefix string) string { return prefix + "audit" }

// Audited returns the call with an audit: the server then also writes an entry into the audit
// stream of the key's shard, in the same step. Without an audit it returns the call.
func (c Call) Audited(id Identity, a *Audit) Call {
	if a == nil {
		return c
	}
	return c.audited(id.auditStream(), id.Digest, a)
}

// audited is Audited for an entry in any stream, about anything that has a name.
func (c Call) audited(stream, name string, a *Audit) Call {
	keys := append(make([]string, 0, 1+c.keys), stream)
	for n := range c.keys {
		keys = append(keys, c.key(n))
	}
	call := newCall(c.script.Audited(), c.nonce, keys...)
	call.durable = c.durable
	call.addAudit(name, a)
	call.add(c.words[c.arg(2):]...)
	return call
}

// NewAudit makes the call that writes an entry about something that was done otherwise.
func (c *Client) NewAudit(id Identity, a *Audit) Call {
	call := newCall(lua.Audit, NewToken(), id.auditStream())
	call.addAudit(id.Digest, a)
	return call
}

func (c *Call) addAudit(name string, a *Audit) {
	c.add(a.Act, name, a.Actor, a.Reason, auditLength, auditLife.Milliseconds())
}

// AuditEntry is an entry of an audit stream.
type AuditEntry struct {
	At     time.Time // the server's
	Digest string
	Audit
	Status Status // the first word of the script's reply
}

// AuditEntries reads the entries of audit streams between two times, both inclusive, in no
// particular order. A zero time is no bound. An operation lasts as long as its requests, each of
// which has the client's timeout. Redis keys of another type in place of streams are a
// [DamagedError] that names them, beside the entries of the others.
func (c *Client) AuditEntries(ctx context.Context, from, to time.Time) (entries []AuditEntry, err error) {
	streams := make([]string, Shards)
	for shard := range streams {
		streams[shard] = AuditStream(ShardPrefix(c.namespace, shard))
	}
	streams = append(streams, flowAuditStream(c.namespace))
	if streams, err = c.Existing(ctx, streams, operatorAsks); err != nil {
		return nil, err
	}
	begin, end := "-", "+"
	if !from.IsZero() {
		begin = strconv.FormatInt(from.UnixMilli(), 10)
	}
	if !to.IsZero() {
		end = strconv.FormatInt(to.UnixMilli(), 10)
	}
	var foreign []string
	for len(streams) > 0 {
		n := min(len(streams), auditBatch)
		cmds := make([]redis.Cmder, n)
		for i, stream := range streams[:n] {
			cmds[i] = redis.NewXMessageSliceCmd(ctx, "xrange", stream, begin, end)
		}
		if err := c.readEach(ctx, cmds); err != nil {
			return nil, err
		}
		for i, cmd := range cmds {
			if cmd.Err() != nil { // readEach has returned all others
				foreign = append(foreign, streams[i])
			}
			for _, m := range cmd.(*redis.XMessageSliceCmd).Val() { //nolint:forcetypeassert // made above
				entries = append(entries, readAuditEntry(m))
			}
		}
		streams = streams[n:]
	}
	if len(foreign) > 0 {
		return entries, &DamagedError{"not a stream, so that the audit of its shard is missing: " + strings.Join(foreign, ", ")}
	}
	return entries, nil
}

// readAuditEntry reads an entry. What it lacks stays empty: entries are for human readers.
func readAuditEntry(m redis.XMessage) AuditEntry {
	text := func(field string) string {
		value, _ := m.Values[field].(string)
		return value
	}
	ms, _, _ := strings.Cut(m.ID, "-")
	at, _ := strconv.ParseInt(ms, 10, 64)
	status, _, _ := strings.Cut(text("reply"), " ")
	return AuditEntry{
		At: time.UnixMilli(at).UTC(), Digest: text("key"), Status: Status(status),
		Audit: Audit{Act: text("act"), Actor: text("actor"), Reason: text("reason")},
	}
}
