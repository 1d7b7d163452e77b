package token

import (
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/caly-dev/caly/internal/bounded"
)

// headerLimits are far above what Mint writes.
var headerLimits = bounded.Limits{Values: 32, Depth: 3, Text: 4096, Total: 8192}

// readHeader returns the id of the key that a token names. The token must read exactly as Mint writes one: compact, in canonical base64,
// with alg, kid and typ in its header and nothing else. A header that names a key's whereabouts (jku, x5u, jwk), an extension (crit, b64)
// or another format (cty, zip) is refused with the rest.
func readHeader(raw string) (kid string, err error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return "", &Error{reasonMalformed}
	}
	var header []byte
	for i, part := range parts {
		decoded, ok := decodeCanonical(part)
		if !ok {
			return "", &Error{reasonMalformed}
		}
		if i == 0 {
			header = decoded
		}
	}
	if _, err := bounded.Document(header, headerLimits, nil); err != nil {
		return "", &Error{reasonMalformed}
	}
	fields := map[string]any{}
	if err := json.Unmarshal(header, &fields); err != nil {
		return "", &Error{reasonMalformed}
	}
	return judgeHeader(fields)
}

func judgeHeader(fields map[string]any) (kid string, err error) {
	alg, _ := fields["alg"].(string)
	typ, _ := fields["typ"].(string)
	kid, named := fields["kid"].(string)
	switch {
	case alg != string(jose.EdDSA):
		return "", &Error{reasonAlgorithm}
	case typ != tokenType:
		return "", &Error{reasonType}
	case !named:
		return "", &Error{reasonUnknownKey}
	case len(fields) != 3:
		return "", &Error{reasonMalformed}
	}
	return kid, nil
}

// decodeCanonical reads the one base64url form of some bytes. The decoder itself leaves out line ends, so the alphabet is looked at first;
// otherwise one signature would have many tokens.
func decodeCanonical(part string) ([]byte, bool) {
	if part == "" || strings.ContainsAny(part, "\r\n") {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	return b, err == nil
}
