package exotel

import (
	"net/url"
	"strings"
)

// domains are Exotel's own.
var domains = []string{"exotel.com", "exotel.in"}

// IsHost reports whether a URL leads to a host of Exotel's own, over https.
func IsHost(u *url.URL) bool {
	name := strings.ToLower(u.Hostname())
	for _, domain := range domains {
		if u.Scheme == "https" && (name == domain || strings.HasSuffix(name, "."+domain)) {
			return true
		}
	}
	return false
}

// signatures are query parameters of signed URLs: of Amazon (two versions), Google (two), Azure, Alibaba, Tencent,
// and CloudFront.
var signatures = map[string]bool{
	"x-amz-signature":      true,
	"x-amz-credential":     true,
	"x-amz-security-token": true,
	"awsaccesskeyid":       true,
	"x-goog-signature":     true,
	"x-goog-credential":    true,
	"googleaccessid":       true,
	"signature":            true,
	"sig":                  true,
	"se":                   true,
	"sp":                   true,
	"sv":                   true,
	"x-oss-signature":      true,
	"ossaccesskeyid":       true,
	"q-signature":          true,
	"key-pair-id":          true,
}

// IsSigned reports whether a URL carries a signature, which admits its bearer without credentials. It also finds
// parameters that Go's parser drops, since a server may read them.
func IsSigned(u *url.URL) bool {
	for _, pair := range strings.FieldsFunc(u.RawQuery, func(r rune) bool { return r == '&' || r == ';' || r == '?' }) {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if signatures[strings.ToLower(strings.TrimSpace(name))] {
			return true
		}
	}
	return false
}

// WithoutQuery returns a URL without its query and fragment, which may hold a signature. It does not parse, so
// that it reads every text.
func WithoutQuery(rawURL string) string {
	if i := strings.IndexAny(rawURL, "?#"); i >= 0 {
		return rawURL[:i]
	}
	return rawURL
}
