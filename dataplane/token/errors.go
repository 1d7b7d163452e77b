package token

import (
	"errors"
	"fmt"

	"github.com/caly-dev/caly/internal/store"
)

// ErrInvalid is what every *Error is, by errors.Is: the answer is the same for all reasons.
var ErrInvalid = errors.New("the access token is not valid")

// ErrNotReady means that this pod does not have a key yet, or has not read the revocations yet. It is temporary, and is
// a kind of store.ErrUnavailable.
var ErrNotReady = fmt.Errorf("access tokens cannot be minted or checked yet: %w", store.ErrUnavailable)

// Reason is why a token is refused. It is for metrics and logs, never for the answer.
type Reason string

// Reasons, a closed set.
const (
	reasonMalformed   Reason = "malformed"     // it does not read as a token that Mint writes
	reasonAlgorithm   Reason = "algorithm"     // another than EdDSA
	reasonType        Reason = "type"          // no access token
	reasonUnknownKey  Reason = "unknown_key"   // no key that verifies now has its id
	reasonSignature   Reason = "signature"     // it is not the key's
	reasonClaims      Reason = "claims"        // signed by a key of ours, and not what Mint writes
	reasonIssuer      Reason = "issuer"        // another platform's
	reasonAudience    Reason = "audience"      // for somebody else
	reasonNotYetValid Reason = "not_yet_valid" // issued in the future
	reasonExpired     Reason = "expired"
	reasonRevoked     Reason = "revoked" // its session ended, or its user or tenant was shut out
)

// Reasons lists them all.
func Reasons() []Reason {
	return []Reason{
		reasonMalformed,
		reasonAlgorithm,
		reasonType,
		reasonUnknownKey,
		reasonSignature,
		reasonClaims,
		reasonIssuer,
		reasonAudience,
		reasonNotYetValid,
		reasonExpired,
		reasonRevoked,
	}
}

// Error refuses a token. It quotes nothing of it.
type Error struct{ Reason Reason }

// Error says why.
func (e *Error) Error() string { return ErrInvalid.Error() + ": " + string(e.Reason) }

// Unwrap makes it an ErrInvalid.
func (e *Error) Unwrap() error { return ErrInvalid }
