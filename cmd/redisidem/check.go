package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// checkCommand prints whether a Redis fits the needs of the library.
type checkCommand struct {
	Redis   given         `env:"REDIS_URL" required:"" placeholder:"URL" help:"The Redis to check."`
	Timeout time.Duration `default:"5s" help:"Timeout of each operation on Redis."`

	Namespace  string        `default:"redisidem" help:"Prefix of all names in Redis. The check verifies the rights to these names."`
	Durability int           `help:"Replicas that must acknowledge a write; they must be online and in sync."`
	Wait       time.Duration `help:"Wait that the programs configure. With it, the check verifies further rights."`
	CacheBytes int64         `help:"CacheBytes that the programs configure. With it, the check verifies further rights."`
}

// Run runs the check. It returns an error if Redis is not fit for use.
func (c *checkCommand) Run(ctx context.Context) (err error) {
	service, err := redisidem.OpenUnchecked(string(c.Redis), &redisidem.Config{
		Namespace: c.Namespace, Timeout: c.Timeout, Durability: c.Durability, Wait: c.Wait, CacheBytes: c.CacheBytes,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close(ctx)) }()
	report, err := service.Check(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	for _, f := range report.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Verdict, f.Node, f.Subject, f.Detail)
	}
	return errors.Join(w.Flush(), report.Err())
}
