package redisidem

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// errLeft reports that the caller has left the loop over an act on many keys.
var errLeft = errors.New("redisidem: the loop was left")

// goOn returns errLeft if the caller has left the loop.
func goOn(on bool) error {
	if !on {
		return errLeft
	}
	return nil
}

// recordMany runs an act on many keys. It writes an entry into the audit before it, and one after
// it with the counts that it returns. Both are under the ID of the key with this scope and value,
// which stands for all of them.
func (in *Inspector) recordMany(ctx context.Context, what, scope, value string, a Act, run func() (counts string, err error)) error {
	audit, err := a.audit(what + ": began")
	if err != nil {
		return err
	}
	s := in.service
	id := protocol.Identify(s.cfg.Namespace, scope, value, protocol.DigestOf(scope, value))
	if _, err := s.ask(ctx, "audit", s.redis.NewAudit(id, audit)); err != nil {
		return err
	}
	counts, err := run()
	how := "ended"
	if err != nil {
		how = "stopped"
	}
	audit.Act = fmt.Sprintf("%s: %s, %s", what, how, counts)
	// The act is over although its caller may have left.
	_, auditErr := s.ask(context.WithoutCancel(ctx), "audit", s.redis.NewAudit(id, audit))
	return errors.Join(err, auditErr)
}
