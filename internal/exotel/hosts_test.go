package exotel_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/exotel"
)

func TestIsHost(t *testing.T) {
	for raw, want := range map[string]bool{
		"https://recordings.exotel.com/a.mp3":         true,
		"https://RECORDINGS.EXOTEL.COM/a.mp3":         true,
		"https://api.in.exotel.com":                   true,
		"https://exotel.com/a.mp3":                    true,
		"https://recordings.exotel.in/a.mp3":          true,
		"https://recordings.exotel.com:8443/a.mp3":    true,
		"http://recordings.exotel.com/a.mp3":          false,
		"https://evilexotel.com/a.mp3":                false,
		"https://exotel.com.evil.example/a.mp3":       false,
		"https://exotel.co/a.mp3":                     false,
		"https://evil.example/exotel.com":             false,
		"https://evil.example?x=.exotel.com":          false,
		"https://recordings.exotel.com.":              false,
		"https://s3-ap-south-1.amazonaws.com/exotel/": false,
		"https://[::1]/exotel.com":                    false,
		"//recordings.exotel.com/a.mp3":               false,
	} {
		address, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := exotel.IsHost(address); got != want {
			t.Errorf("IsHost(%s) = %v", raw, got)
		}
	}
}

func TestIsSigned(t *testing.T) {
	for query, want := range map[string]bool{
		"":                                     false,
		"a=b":                                  false,
		"size=1000&design=1":                   false,
		"X-Amz-Signature=abc":                  true,
		"x-amz-signature=abc":                  true,
		"X-AMZ-SIGNATURE":                      true,
		"a=b&X-Goog-Signature=abc":             true,
		"a=b;X-Goog-Signature=abc":             true,
		"X%2DAmz%2DSignature=abc":              true,
		"%58-amz-signature=abc&%zz":            true,
		"%zz;sig=1":                            true,
		"sv=2020-08-04&se=2030&sr=b&sp=r&sig=": true,
		"AWSAccessKeyId=a&Signature=b":         true,
		"GoogleAccessId=a":                     true,
		"x=1?Signature=b":                      true,
		"q=X-Amz-Signature":                    false,
	} {
		if got := exotel.IsSigned(&url.URL{RawQuery: query}); got != want {
			t.Errorf("IsSigned(%s) = %v", query, got)
		}
	}
}

// FuzzSigned hides a signature among other parameters. It is found, and WithoutQuery leaves nothing of it.
func FuzzSigned(f *testing.F) {
	f.Add("https://s3.example.com/a", "a=b", "c")
	f.Add("https://s3.example.com/a#b", "a;b", "%zz&")
	f.Fuzz(func(t *testing.T, base, before, after string) {
		if strings.ContainsAny(base, "?#") {
			base = exotel.WithoutQuery(base)
		}
		address := &url.URL{RawQuery: before + "&X-Amz-Signature=SECRET&" + after}
		if !exotel.IsSigned(address) {
			t.Fatalf("no signature was found in %q", address.RawQuery)
		}
		if got := exotel.WithoutQuery(base + "?" + address.RawQuery); got != base {
			t.Fatalf("WithoutQuery leaves %q of %q", got, base)
		}
	})
}

func TestInPath(t *testing.T) {
	const host = "https://s3.amazonaws.com"
	for path, want := range map[string]bool{
		"/exotelrecordings/a/b.mp3":            true,
		"/exotelrecordings/a/..b.mp3":          true,
		"/exotelrecordings/a/../b.mp3":         false, // it may be read as the next one
		"/exotelrecordings/../others/a.mp3":    false,
		"/exotelrecordings/%2e%2e/others/a":    false,
		"/exotelrecordings/%2E./others/a":      false,
		"/exotelrecordings/..":                 false,
		"/exotelrecordings":                    false,
		"/exotelrecordings.others/a.mp3":       false,
		"/others/exotelrecordings/a.mp3":       false,
		"/others/../exotelrecordings/a.mp3":    false,
		"/EXOTELRECORDINGS/a.mp3":              false,
		"/%65xotelrecordings/a.mp3":            false, // a proxy may judge it otherwise
		"//exotelrecordings/a.mp3":             false,
		"/?/exotelrecordings/a.mp3":            false,
		"/#/exotelrecordings/a.mp3":            false,
		"/exotelrecordings/a.mp3?x=/../others": true,
	} {
		address, err := url.Parse(host + path)
		if err != nil {
			t.Fatal(err)
		}
		if got := exotel.InPath(address, "exotelrecordings"); got != want {
			t.Errorf("InPath(%s) = %v, want %v", path, got, want)
		}
	}
}
