package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/redisidem/redisidem/redisidem"
)

// answerFlags say which answers the programs can read. The answers that a command stores must be
// such.
type answerFlags struct {
	MaxValueBytes int  `default:"1048576" help:"MaxValueBytes that the programs configure. Longer answers are refused, since the programs could not read them."`
	AcceptPlain   bool `help:"The programs also accept values without encryption and compression."`
}

// check returns an error for a bound that no program can have.
func (f *answerFlags) check() error {
	if f.MaxValueBytes < 1 || f.MaxValueBytes > maxValueBytes {
		return usage("--max-value-bytes %d must be from 1 to %d", f.MaxValueBytes, maxValueBytes)
	}
	return nil
}

// maxValueBytes is the largest Config.MaxValueBytes.
const maxValueBytes = 512 << 20

type keysResolve struct {
	storeFlags
	actFlags
	answerFlags
	keyArgument
	Status int    `required:"" help:"Status of the answer, from 200 to 599, or 0 for none. With 0 and no body a retry over HTTP gets 410."`
	Body   string `placeholder:"FILE" help:"Body of the answer; - for standard input, which needs --yes."`
	Type   string `default:"application/json" help:"Content-Type of the body."`
	Leave  bool   `help:"Keep what the stages of the key's flow have committed. Needed if they can be undone."`
}

// Run resolves a key.
func (c *keysResolve) Run(ctx context.Context) error {
	if c.Status != 0 && (c.Status < 200 || c.Status > 599) { // 1xx is not an answer
		return usage("--status %d must be from 200 to 599, or 0 for none", c.Status)
	}
	if err := c.answerFlags.check(); err != nil {
		return err
	}
	body, err := untilEnd(ctx, c.body)
	if err != nil {
		return err
	}
	c.writes = &c.answerFlags
	response := redisidem.Response{Code: c.Status, Body: body}
	if c.Body != "" {
		response.Header = http.Header{"Content-Type": {c.Type}}
	}
	outcome := redisidem.Finish(response)
	if c.Leave {
		outcome = outcome.Leave()
	}
	question := fmt.Sprintf("Answer %d with %s to", c.Status, count(len(body), "byte"))
	return c.one(ctx, &c.storeFlags, &c.keyArgument, question, "resolved", func(in *redisidem.Inspector, ctx context.Context, key *redisidem.KeyInfo, a redisidem.Act) error {
		return codecAdvice(in.Resolve(ctx, key, outcome, a))
	})
}

// body reads the body of the answer.
func (c *keysResolve) body() ([]byte, error) {
	from := os.Stdin
	switch {
	case c.Body == "":
		return nil, nil
	case c.Body != "-":
		file, err := os.Open(c.Body)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		from = file
	case !c.Yes:
		return nil, usage("--body - needs --yes, since the answer to the question is read from there, too")
	}
	body, err := io.ReadAll(io.LimitReader(from, int64(c.MaxValueBytes)+1))
	if err == nil && len(body) > c.MaxValueBytes {
		return nil, usage("--body is longer than --max-value-bytes (%d), and programs with that bound could not read the answer", c.MaxValueBytes)
	}
	return body, err
}

// codecAdvice adds the flags to an error about the codec.
func codecAdvice(err error) error {
	if invalid, ok := errors.AsType[*redisidem.InvalidError](err); ok && invalid.Field == "Config.Codec" {
		return fmt.Errorf("nothing was changed: %w; --encryption-key-file, --compressed and --accept-plain must say how the programs encode values", err)
	}
	return err
}
