package httpidem

import (
	"context"

	"github.com/redisidem/redisidem/redisidem"
)

type stageContext struct{}

// Stage returns what the handler may ask about the lease it runs under: its fence, the how-many-eth attempt this is, and keys
// for calls to other services. It is nil when the request is not protected: its method is not covered, it had no key and needed
// none, or the store was down and Config.FailOpen set.
//
// ctx is the context of the handler's request, or one that descends from it.
func Stage(ctx context.Context) *redisidem.Stage {
	st, _ := ctx.Value(stageContext{}).(*redisidem.Stage)
	return st
}

func withStage(ctx context.Context, st *redisidem.Stage) context.Context {
	return context.WithValue(ctx, stageContext{}, st)
}
