package httpidem

import (
	"context"
	"errors"
	"slices"

	"github.com/redisidem/redisidem/redisidem"
)

// refingerprint computes the fingerprint in the version of the key's record. It reports false if
// that version is the current one or is unknown.
func (x *keyedRequest) refingerprint() bool {
	others := x.middleware.cfg.OtherFingerprints
	if len(others) == 0 {
		return false
	}
	key, err := x.scope.Retrieve(x.r.Context(), x.key)
	if err != nil || len(key.Params) != 1 || key.Params[0] == x.version[0] {
		return false
	}
	i := slices.IndexFunc(others, func(f Fingerprint) bool { return f.Version == key.Params[0] })
	return i >= 0 && x.fingerprint(&others[i]) == nil
}

// do runs the request's key. If the record has a fingerprint of another version, it does so again
// with that version.
func (x *keyedRequest) do(
	ctx context.Context, run func(context.Context, *redisidem.Stage) (redisidem.Outcome, error),
) (*redisidem.Key, error) {
	key, err := x.scope.Do(ctx, x.key, x.request, run)
	if errors.Is(err, redisidem.ErrFingerprintMismatch) && x.refingerprint() {
		key, err = x.scope.Do(ctx, x.key, x.request, run)
	}
	return key, err
}
