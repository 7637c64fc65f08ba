package contender

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

var (
	redislockPlain = Kind{
		Name: "redislock", Title: "redislock by hand",
		About: "The hand-written way: obtain a redislock, read the record, write it, release: four round trips. A worker " +
			"that outlives its lease can store its answer while another one has the lock, because nothing fences it.",
		Replays: true,
		Open: func(ctx context.Context, dial Dial, prefix string) (Contender, error) {
			client, err := dial.Client(ctx)
			if err != nil {
				return nil, err
			}
			return &handwritten{store: client, lock: obtain(client), prefix: prefix, closer: client}, nil
		},
	}
	redislockAuto = Kind{
		Name: "redislock-auto", Title: "redislock by hand, auto-pipelined",
		About:   "The same over go-redis's blocking auto-pipeliner: four round trips in shared pipelines, nothing fenced.",
		Replays: true,
		Open: func(_ context.Context, dial Dial, prefix string) (Contender, error) {
			client, err := dial.SharedClient()
			if err != nil {
				return nil, err
			}
			pipe, err := autoPipeline(client)
			if err != nil {
				return nil, errors.Join(err, client.Close())
			}
			return &handwritten{store: pipe, lock: obtain(pipe), prefix: prefix, closer: client}, nil
		},
	}
	redsyncPlain = Kind{
		Name: "redsync", Title: "redsync by hand",
		About:   "The same work with redsync's mutex on one server in place of redislock. Nothing is fenced.",
		Replays: true,
		Open: func(ctx context.Context, dial Dial, prefix string) (Contender, error) {
			client, err := dial.Client(ctx)
			if err != nil {
				return nil, err
			}
			rs := redsync.New(goredis.NewPool(client))
			lock := func(ctx context.Context, name string) (func(context.Context) error, error) {
				mutex := rs.NewMutex(name, redsync.WithExpiry(lease), redsync.WithTries(1))
				if err := mutex.LockContext(ctx); err != nil {
					var taken *redsync.ErrTaken
					if errors.As(err, &taken) || errors.Is(err, redsync.ErrFailed) {
						return nil, ErrInFlight
					}
					return nil, err
				}
				return func(ctx context.Context) error {
					if ok, err := mutex.UnlockContext(ctx); err != nil || !ok {
						return errors.Join(err, errors.New("the lock was lost"))
					}
					return nil
				}, nil
			}
			return &handwritten{store: client, lock: lock, prefix: prefix, closer: client}, nil
		},
	}
)

// lease is the lease of each contender's lock. It is longer than any run, for two reasons.
// Hand-written contenders do not renew their locks. The scenario of refused duplicates holds its
// locks from beginning to end.
const lease = retention

// locker takes the lock with a name, or returns ErrInFlight.
type locker func(ctx context.Context, name string) (unlock func(context.Context) error, err error)

func obtain(client redislock.RedisClient) locker {
	locks := redislock.New(client)
	return func(ctx context.Context, name string) (func(context.Context) error, error) {
		lock, err := locks.Obtain(ctx, name, lease, nil)
		if errors.Is(err, redislock.ErrNotObtained) {
			return nil, ErrInFlight
		}
		if err != nil {
			return nil, err
		}
		return lock.Release, nil
	}
}

// autoPipeline returns a client whose calls block until its auto-pipeliner has the reply.
func autoPipeline(client redis.UniversalClient) (*redis.AutoPipeliner, error) {
	switch c := client.(type) {
	case *redis.Client:
		return c.AutoPipeline()
	case *redis.ClusterClient:
		return c.AutoPipeline()
	}
	return nil, errors.New("this client has no auto-pipeliner")
}

// handwritten is idempotency as a careful engineer writes it on top of a lock. The record is a hash
// with the same parts of request and response that this library stores.
type handwritten struct {
	store interface {
		redis.Scripter
		HGetAll(ctx context.Context, key string) *redis.MapStringStringCmd
	}
	lock   locker
	prefix string
	closer io.Closer
}

// write stores a finished record. It does not replace an existing one.
var write = redis.NewScript(writeSource)

const writeSource = `
if redis.call('HGET', KEYS[1], 'recovery_point') == 'finished' then
  return 0
end
redis.call('HSET', KEYS[1], 'recovery_point', 'finished', 'idempotency_key', ARGV[1], 'scope', ARGV[2],
  'request_method', ARGV[3], 'request_path', ARGV[4], 'request_params', ARGV[5], 'fingerprint', ARGV[6],
  'response_code', ARGV[7], 'response_body', ARGV[8], 'created_at', ARGV[9], 'locked_at', ARGV[9])
redis.call('PEXPIRE', KEYS[1], ARGV[10])
return 1`

func (g *handwritten) Do(ctx context.Context, r Request, work Work) (response []byte, replayed bool, err error) {
	name := g.record(r)
	unlock, err := g.lock(ctx, name+":lock")
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if unlockErr := unlock(ctx); err == nil && unlockErr != nil {
			response, err = nil, unlockErr
		}
	}()
	now := time.Now()
	record, err := g.store.HGetAll(ctx, name).Result()
	if err != nil {
		return nil, false, err
	}
	digest := fingerprint(r)
	if len(record) > 0 {
		if record["fingerprint"] != digest {
			return nil, false, errors.New("the key was used with another request")
		}
		if record["recovery_point"] == "finished" {
			return []byte(record["response_body"]), true, nil
		}
	}
	body, err := work(ctx)
	if err != nil {
		return nil, false, err
	}
	stored, err := write.Run(ctx, g.store, []string{name}, r.Key, "bench", r.Method, r.Path, r.Params, digest, 200, body,
		strconv.FormatInt(now.UnixMicro(), 10), retention.Milliseconds()).Int()
	if err != nil {
		return nil, false, err
	}
	if stored != 1 {
		return nil, false, errors.New("another worker was faster")
	}
	return body, false, nil
}

// record returns the Redis key of a request's record.
func (g *handwritten) record(r Request) string { return g.prefix + ":{" + r.Key + "}" }

func (g *handwritten) Close() error { return g.closer.Close() }

// fingerprint returns a digest of the parts that make two requests the same.
func fingerprint(r Request) string {
	h := sha256.New()
	for _, part := range []string{r.Method, r.Path} {
		_, _ = io.WriteString(h, part+"\x00") // a hash returns no errors
	}
	_, _ = h.Write(r.Params)
	return hex.EncodeToString(h.Sum(nil))
}
