package console

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/redisidem/redisidem/redisidem"
)

// problem is why a request was refused, as its user sees it.
type problem struct {
	status int
	title  string
	text   string
}

func (p *problem) Error() string { return p.text }

// The refusals of the console itself.
var (
	errNoPage           = &problem{http.StatusNotFound, "No such page", "The console has no page with this address."}
	errOtherOrigin      = &problem{http.StatusForbidden, "Refused", "The request came from a page of another site."}
	errNotAuthenticated = &problem{http.StatusUnauthorized, "Not authenticated", "The request has no valid credentials."}
	errNoRole           = &problem{http.StatusForbidden, "No access", "You have neither the role viewer nor the role operator."}
	errViewer           = &problem{http.StatusForbidden, "Not permitted", "Only operators may act on keys and read values."}
	errReadOnly         = &problem{http.StatusForbidden, "Read-only", "This console is read-only: it was started without the right to write."}
	errManyCostly       = &problem{http.StatusServiceUnavailable, "Too many pages", "Too many lists are being read. Try again later."}
	errManyStreams      = &problem{http.StatusServiceUnavailable, "Too many live pages", "Too many pages are live. Try again later."}
)

// badInput is the problem of a form's field.
func badInput(field, text string) error {
	return &problem{http.StatusBadRequest, "Bad input", field + " " + text}
}

// message returns what a user may read about an error.
func message(err error) string { return explain(err).text }

// plain returns the text of an error without the name of the library.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "redisidem: ") }

// explain returns the problem behind an error.
func explain(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	text := plain(err)
	switch {
	case errors.Is(err, redisidem.ErrNotFound):
		return &problem{http.StatusNotFound, "No such key", "There is no such key: it never had a record, it was deleted, or its retention ended."}
	case errors.Is(err, redisidem.ErrInvalid), errors.Is(err, redisidem.ErrUndecided):
		return &problem{http.StatusBadRequest, "Bad input", text}
	case errors.Is(err, redisidem.ErrNotPermitted):
		return &problem{http.StatusForbidden, "Not permitted by Redis", "The console's Redis user lacks a right."}
	case errors.Is(err, redisidem.ErrUnavailable), errors.Is(err, redisidem.ErrClosed), errors.Is(err, context.DeadlineExceeded):
		return &problem{http.StatusServiceUnavailable, "Redis does not answer", "Redis gave no answer in time. What was under way may have been done or not: the audit says it."}
	case errors.Is(err, redisidem.ErrLocked):
		return &problem{http.StatusConflict, "In flight", "A worker has the lease on the key. Unlock it first, or wait."}
	case errors.Is(err, redisidem.ErrNotLocked):
		return &problem{http.StatusConflict, "Not locked", "No worker has a lease on the key, so nothing was taken away."}
	case errors.Is(err, redisidem.ErrStale):
		return &problem{http.StatusConflict, "Changed", "The key has changed since it was shown. Look at it again."}
	case errors.Is(err, redisidem.ErrFinished):
		return &problem{http.StatusConflict, "Finished", "The key is finished, and its answer does not change any more."}
	case errors.Is(err, redisidem.ErrTooLate):
		return &problem{http.StatusConflict, "Too late", "It is too late to cancel: the key is finished, its flow has failed, or it is behind the flow's point of no return."}
	case errors.Is(err, redisidem.ErrNotPaused):
		return &problem{http.StatusConflict, "Not paused", "The flow is not paused under this name. Resume it as it was paused: by its name, or by name/version."}
	case errors.Is(err, redisidem.ErrDamaged):
		return &problem{http.StatusConflict, "Not readable", text}
	}
	return &problem{http.StatusInternalServerError, "Error", "The console failed. Its log has the details."}
}

// fail answers with an error.
func (v *visit) fail(err error) {
	p := explain(err)
	if p.status >= http.StatusInternalServerError && v.r.Context().Err() == nil {
		v.console.cfg.Logger.WarnContext(v.r.Context(), "console", "path", v.r.URL.Path, "error", err)
	}
	if err := v.render(p.status, "problem", p.title, p.text); err != nil {
		http.Error(v.w, p.text, p.status)
	}
}
