package caddyidem_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	leak.Main(m)
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
