package exotel

import (
	"net/url"
	"slices"
	"strings"
)

// domains are Exotel's own.
var domains = []string{"exotel.com", "exotel.in"}

// buckets of S3 in which Exotel stores recordings. Anyone can own a bucket of another name, so hosts of Amazon are
// trusted with these names only. A name of a bucket is unique in the regions below amazonaws.com.
var buckets = []string{
	// Singapore, and the path on recordings.exotel.com: developer.exotel.com/docs, call logs of many users
	"exotelrecordings",
	"exotel-mum1-recordings", // Mumbai: https://developer.exotel.com/docs/voice-v3/api-reference/call-details
}

// endpoints are the hosts of S3 in the regions of Exotel's two clusters, and the one of all regions.
var endpoints = []string{
	"s3.ap-south-1.amazonaws.com", "s3-ap-south-1.amazonaws.com", "s3.dualstack.ap-south-1.amazonaws.com",
	"s3.ap-southeast-1.amazonaws.com", "s3-ap-southeast-1.amazonaws.com", "s3.dualstack.ap-southeast-1.amazonaws.com",
	"s3.amazonaws.com",
}

// RecordingHosts returns the places that serve Exotel's recordings: a host, "*." and a domain for every host below it,
// or a host, "/" and a bucket.
func RecordingHosts() []string {
	var hosts []string
	for _, domain := range domains {
		hosts = append(hosts, "*."+domain)
	}
	for _, bucket := range buckets {
		for _, endpoint := range endpoints {
			hosts = append(hosts, endpoint+"/"+bucket, bucket+"."+endpoint)
		}
	}
	return hosts
}

// IsHost reports whether a URL leads to a host of Exotel's own, over https.
func IsHost(u *url.URL) bool { return u.Scheme == "https" && isDomain(strings.ToLower(u.Hostname())) }

// isDomain reports whether name is one of Exotel's domains or below one.
func isDomain(name string) bool {
	return slices.ContainsFunc(domains, func(domain string) bool {
		return name == domain || strings.HasSuffix(name, "."+domain)
	})
}

// isBucket reports whether a URL leads to a bucket of Exotel's.
func isBucket(u *url.URL) bool {
	return namesBucket(strings.ToLower(u.Hostname()), func(bucket string) bool { return InPath(u, bucket) })
}

// namesBucket reports whether a host is that of a bucket of Exotel's, or one of S3 whose path begins with such a
// bucket.
func namesBucket(host string, inPath func(bucket string) bool) bool {
	return slices.ContainsFunc(buckets, func(bucket string) bool {
		endpoint, inHost := strings.CutPrefix(host, bucket+".")
		return slices.Contains(endpoints, endpoint) && (inHost || inPath(bucket))
	})
}

// InPath reports whether the first element of a URL's path is a name, as it is for a bucket of S3. It is false for a
// path that could lead out of it.
func InPath(u *url.URL, name string) bool {
	rest, found := strings.CutPrefix(u.EscapedPath(), "/"+name+"/")
	rest = strings.ReplaceAll(strings.ToLower(rest), "%2e", ".")
	return found && !slices.Contains(strings.Split(rest, "/"), "..")
}

// Secure makes a URL one of https if it leads to Exotel over plain http. It reports whether the URL is one of https and
// leads to Exotel.
func Secure(u *url.URL) bool {
	if !isDomain(strings.ToLower(u.Hostname())) && !isBucket(u) {
		return false
	}
	if u.Scheme == "http" {
		u.Scheme = "https"
		if u.Port() == "80" {
			u.Host = u.Hostname()
		}
	}
	return u.Scheme == "https"
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
func IsSigned(u *url.URL) bool { return isSignedQuery(u.RawQuery) }

// isSignedQuery reports whether a query has a parameter of a signed URL. Such a URL works for its bearer and is
// redacted.
func isSignedQuery(query string) bool {
	for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' || r == '?' }) {
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
