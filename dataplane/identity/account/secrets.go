package account

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"

	"github.com/caly-dev/caly/internal/keyring"
)

const (
	codeDigits = 6
)

// newCode is a code to type in.
func newCode() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		panic(err) // unreachable: the reader never fails
	}
	return fmt.Sprintf("%0*d", codeDigits, n)
}

// codeHash is what is stored of a code: under a key, for all codes are soon tried, and for one account alone.
func codeHash(r *keyring.Ring, tenant, email, code string) []byte {
	mac := hmac.New(sha256.New, r.Derive(keyring.PurposeEmailCode))
	mac.Write([]byte(tenant + "\x00" + email + "\x00" + code))
	return mac.Sum(nil)
}

func resetHash(raw string) []byte {
	sum := sha256.Sum256([]byte(raw))
	return sum[:]
}
