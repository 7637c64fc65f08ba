package httpidem

import (
	"context"
	"errors"

	"github.com/redisidem/redisidem/redisidem"
)

// otherFingerprints returns the configured fingerprints with the version of the key's record.
func (x *keyedRequest) otherFingerprints() (same []Fingerprint) {
	others := x.middleware.cfg.OtherFingerprints
	if len(others) == 0 {
		return nil
	}
	key, err := x.scope.Retrieve(x.r.Context(), x.key)
	if err != nil || len(key.Params) != 1 {
		return nil
	}
	for _, f := range others {
		if f.Version == key.Params[0] {
			same = append(same, f)
		}
	}
	return same
}

// do runs the request's key. If the record has another fingerprint, it does so again with each of
// the other ones that have the record's version.
func (x *keyedRequest) do(
	ctx context.Context, run func(context.Context, *redisidem.Stage) (redisidem.Outcome, error),
) (*redisidem.Key, error) {
	key, err := x.scope.Do(ctx, x.key, x.request, run)
	if !errors.Is(err, redisidem.ErrFingerprintMismatch) {
		return key, err
	}
	for _, f := range x.otherFingerprints() {
		if x.fingerprint(&f) != nil {
			continue
		}
		if key, err = x.scope.Do(ctx, x.key, x.request, run); !errors.Is(err, redisidem.ErrFingerprintMismatch) {
			break
		}
	}
	return key, err
}
