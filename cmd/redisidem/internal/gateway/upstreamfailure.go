package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// upstreamErrorHandler returns the error handler of a route's proxy. If nothing was sent to the
// upstream, the attempt does not count. Otherwise the outcome of the request is unknown.
func (g *generation) upstreamErrorHandler(p *Policy) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		status := http.StatusBadGateway
		network, isNetwork := errors.AsType[net.Error](err)
		_, notSent := errors.AsType[*notSentError](err)
		switch {
		case notSent:
			status = notSentStatus
		case errors.Is(err, context.Canceled):
			// The client has disconnected, or the lease is lost. This response is not read.
		case isNetwork && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
			status = http.StatusGatewayTimeout
		}
		g.log.LogAttrs(r.Context(), slog.LevelWarn, "upstream failed", slog.Int("status", status), slog.Bool("sent", !notSent),
			slog.String("error", errorKind(err)))
		if notSent {
			p.answerNotSent(w, r)
			return
		}
		httpidem.OutcomeUnknown(r.Context())
		p.writeProblem(w, r, noAnswer(r, status))
	}
}

// noAnswer returns the problem for a request that was sent and not answered. It asks for a retry
// only if a retry cannot do the work twice unnoticed: the request is protected, or its method is
// safe.
func noAnswer(r *http.Request, status int) httpidem.Problem {
	problem := httpidem.Problem{Status: status, Title: "The upstream did not answer", Detail: "The upstream may have executed the request."}
	protected := httpidem.Stage(r.Context()) != nil
	if protected {
		problem.Detail += " Use the same Idempotency-Key for a retry."
	}
	if protected || isSafe(r.Method) {
		problem.RetryAfter = time.Second
	}
	return problem
}

// errorKind describes an error of the upstream for operators. The text of an error after the
// request was sent may contain parts of the response, so it is not used.
func errorKind(err error) string {
	network, isNetwork := errors.AsType[net.Error](err)
	notSent, isNotSent := errors.AsType[*notSentError](err)
	switch {
	case isNotSent:
		return notSent.Error()
	case errors.Is(err, errOutcomeUnknown), errors.Is(err, errNoStatus), errors.Is(err, errRepeated):
		return err.Error()
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), isNetwork && network.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isNetwork:
		return "the connection ended"
	}
	return "the answer cannot be read"
}

// trackedBody is the body of an upstream response. If it breaks off, the outcome of the request is
// unknown.
type trackedBody struct {
	io.ReadCloser
	ctx context.Context // of the request
}

func (b *trackedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		httpidem.OutcomeUnknown(b.ctx)
	}
	return n, err
}
