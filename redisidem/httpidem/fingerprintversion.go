package httpidem

import (
	"context"
	"errors"

	"github.com/redisidem/redisidem/redisidem"
)

// otherFingerprints returns the configured fingerprints with the version of the key's record. gone
// means that the record has expired meanwhile.
func (x *keyedRequest) otherFingerprints() (same []Fingerprint, gone bool, err error) {
	others := x.middleware.cfg.OtherFingerprints
	if len(others) == 0 {
		return nil, false, nil
	}
	key, err := x.scope.Retrieve(x.r.Context(), x.key)
	switch {
	case errors.Is(err, redisidem.ErrNotFound):
		return nil, true, nil
	case err != nil:
		return nil, false, err
	case len(key.Params) != 1:
		return nil, false, nil
	}
	for _, f := range others {
		if f.Version == key.Params[0] {
			same = append(same, f)
		}
	}
	return same, false, nil
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
	others, gone, failure := x.otherFingerprints()
	switch {
	case failure != nil:
		return key, failure // it is not known whether this is another request
	case gone:
		return x.scope.Do(ctx, x.key, x.request, run)
	}
	for _, f := range others {
		switch failure := x.fingerprint(&f); {
		case isSpoolError(failure):
			return key, failure // it is not known whether this is another request
		case failure != nil:
			continue
		}
		if key, err = x.scope.Do(ctx, x.key, x.request, run); !errors.Is(err, redisidem.ErrFingerprintMismatch) {
			break
		}
	}
	return key, err
}
