// Package protocol sends calls to Redis. It contains every Redis key name, and the arguments and
// replies of each script. It takes and claims locks, and sends, repeats and acknowledges calls. It
// imports nothing of the packages above it, and returns errors of its own.
package protocol

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options configures a [Client].
type Options struct {
	Redis     redis.UniversalClient // a *redis.Client or a *redis.ClusterClient
	Namespace string
	Timeout   time.Duration // bounds each operation without a bound of its caller
	Lease     time.Duration
	Retention time.Duration
	// DeadLetters is how long the record of a dead letter lives at least.
	DeadLetters time.Duration
	Owner       string // names this process in journals
	// Durability is how many replicas must acknowledge durable calls.
	Durability int
	// AutoPipeline sends the commands of concurrent callers in common pipelines.
	AutoPipeline bool
	// RecordLife makes each claim and create ask how long a finished record lives.
	RecordLife bool
}

// Client makes calls and sends them. It is safe for concurrent use.
type Client struct {
	redis       redis.UniversalClient
	transport   transport
	timeout     time.Duration
	lease       time.Duration
	deadLetters time.Duration // how long they are kept
	namespace   string
	owner       string
	durability  int
	flags       string // of every call
	constants
}

// constants are arguments that calls send again and again, converted once. Times are in
// milliseconds.
type constants struct {
	leaseArg, retentionArg any
	lifetimeArg            any // of a record from a claim on: lease and retention
	deadLetterArg          any // of the record of a dead letter
	ownerArg, deletedArg   any
}

// New makes a client. It sends nothing.
func New(o *Options) (*Client, error) {
	c := &Client{
		redis: o.Redis, transport: plain{o.Redis}, timeout: o.Timeout, lease: o.Lease, deadLetters: o.DeadLetters, namespace: o.Namespace, owner: o.Owner, durability: o.Durability,
	}
	if o.AutoPipeline {
		p, err := newPipelined(o.Redis)
		if err != nil {
			return nil, err
		}
		c.transport = p
	}
	if o.RecordLife {
		c.flags += flagLife
	}
	if o.Durability > 0 {
		c.flags += flagDurable
	}
	c.constants = constants{
		leaseArg: o.Lease.Milliseconds(), retentionArg: o.Retention.Milliseconds(), lifetimeArg: (o.Lease + o.Retention).Milliseconds(),
		deadLetterArg: max(o.DeadLetters, o.Lease+o.Retention).Milliseconds(), ownerArg: o.Owner, deletedArg: DeletedChannel(o.Namespace),
	}
	return c, nil
}

// WithRetention returns a client that shares c's connections, for records with another retention.
func (c *Client) WithRetention(retention time.Duration) *Client {
	other := *c
	other.retentionArg, other.lifetimeArg = retention.Milliseconds(), (c.lease + retention).Milliseconds()
	other.deadLetterArg = max(c.deadLetters, c.lease+retention).Milliseconds()
	return &other
}

// send passes a command to the transport. It sends nothing if ctx has ended; go-redis would send it
// nevertheless.
func (c *Client) send(ctx context.Context, cmd redis.Cmder) error {
	if err := ctx.Err(); err != nil {
		return unsentError{err}
	}
	return c.transport.send(ctx, cmd)
}

// sendTogether is send for several commands about keys in one slot.
func (c *Client) sendTogether(ctx context.Context, cmds ...redis.Cmder) error {
	if err := ctx.Err(); err != nil {
		return unsentError{err}
	}
	return c.transport.sendTogether(ctx, cmds)
}

// sendDurably is send for a write that Options.Durability replicas must have. key is the one that
// it writes. It returns how many replicas acknowledged it.
func (c *Client) sendDurably(ctx context.Context, key string, cmd redis.Cmder) (acks int, err error) {
	if c.durability == 0 {
		return 0, c.send(ctx, cmd)
	}
	if err := ctx.Err(); err != nil {
		return 0, unsentError{err}
	}
	return durable{c.redis, c.durability}.send(ctx, key, cmd)
}
