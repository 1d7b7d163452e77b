// Package verify verifies that a webhook comes from whom it says: one file for each verifier, and Verify over those that a tenant
// has.
package verify

import (
	"crypto/rand"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Request is what verifiers look at.
type Request struct {
	// Method, Header and the raw Body as received.
	Method string
	Header http.Header
	Body   []byte
	// URL as the sender wrote it: scheme and host from trusted proxies. See OutsideURL.
	URL *url.URL
	// PathToken is the last element of the path where a token may be, decoded; empty: there is none.
	PathToken string
	// ClientIP is from trusted proxies only. See ClientAddress.
	ClientIP netip.Addr
	// Now is the time against which timestamps are held.
	Now time.Time
}

// Reasons of a refusal: a closed set, for log and metric. None of them is for the sender to see.
const (
	ReasonNoVerifier       = "no_verifier"
	ReasonMissingSignature = "missing_signature"
	ReasonWrongSignature   = "wrong_signature"
	ReasonUnsignedBody     = "unsigned_body"
	ReasonMissingStandard  = "missing_standard_webhooks"
	ReasonWrongStandard    = "wrong_standard_webhooks"
	ReasonBadTimestamp     = "bad_timestamp"
	ReasonStaleTimestamp   = "stale_timestamp"
	ReasonMissingToken     = "missing_token"
	ReasonWrongToken       = "wrong_token"
	ReasonMissingBasicAuth = "missing_basic_auth"
	ReasonWrongBasicAuth   = "wrong_basic_auth"
	ReasonWrongAddress     = "address_not_allowed"
)

// Reasons are all of them, so that a metric can begin with every series.
func Reasons() []string {
	return []string{
		ReasonNoVerifier,
		ReasonMissingSignature,
		ReasonWrongSignature,
		ReasonUnsignedBody,
		ReasonMissingStandard,
		ReasonWrongStandard,
		ReasonBadTimestamp,
		ReasonStaleTimestamp,
		ReasonMissingToken,
		ReasonWrongToken,
		ReasonMissingBasicAuth,
		ReasonWrongBasicAuth,
		ReasonWrongAddress,
	}
}

// Verdict of Verify.
type Verdict struct {
	// OK tells whether the request is accepted.
	OK bool
	// Reason of the refusal, one of Reasons.
	Reason string
	// Missing tells that a refused request carries nothing that any verifier of any tenant would look at. It depends on the request
	// alone: an answer that is made from it tells nobody which tenants exist, nor which verifiers they have.
	Missing bool
	// CoversQuery and CoversBody report which parts of an accepted request are authenticated. An attacker who has seen
	// one signed body can send another query with it.
	CoversQuery, CoversBody bool
	// SignedDigest is a SHA-256 of the bytes that the accepted signature covers, or of the id that is signed with them.
	// It depends on nothing that a sender without the secret can change. Nil: no signature was accepted.
	SignedDigest []byte
}

// finding is what one verifier says. It covers something only if it has no reason to refuse.
type finding struct {
	verifier    string // its name
	refusal     string // one of Reasons; empty: accepted
	missing     bool   // the refusal is that what this verifier looks for is not there
	query, body bool   // what it covers
	digest      []byte // of the signed bytes, or of their id; nil: the verifier signs nothing
	whole       bool   // the digest is of the body, or of the query in its place, alone
}

func refuse(reason string) finding { return finding{refusal: reason} }
func lacks(reason string) finding  { return finding{refusal: reason, missing: true} }

// bearer is the finding of a verifier that looks at the sender, not at what is sent.
func bearer() finding { return finding{query: true, body: true} }

// decoy takes as long as a tenant's usual verifier, so that the time of a refusal does not show which tenants exist.
// Nobody knows its secret, and its result is ignored.
var decoy = &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{
	Scheme:  tenantconfig.SchemeHMACSHA1,
	Secrets: []secret.Sensitive{secret.Sensitive(rand.Text())},
}}

// Verify tells whether the tenant's verifiers accept the request; nil, or a config without any verifier, refuses all. Every
// verifier is heard, whatever the one before it said.
func Verify(cfg *tenantconfig.Webhooks, r *Request) Verdict {
	if !cfg.Configured() {
		_ = hear(decoy, r)
		return Verdict{Reason: ReasonNoVerifier, Missing: bare(r)}
	}
	findings := hear(cfg, r)
	verdict := anyOf(findings)
	if cfg.RequireAll {
		verdict = allOf(findings)
	}
	if !verdict.OK {
		verdict.SignedDigest = nil
		verdict.Reason = refusal(findings)
		verdict.Missing = bare(r)
	}
	return verdict
}

// AcceptsHead reports whether the tenant's verifiers accept the request whatever its body is. If it does not, Verify
// with the body decides.
func AcceptsHead(cfg *tenantconfig.Webhooks, r *Request) bool {
	if !cfg.Configured() || cfg.RequireAll && (cfg.Signature != nil || cfg.Standard != nil) {
		return false
	}
	head := *cfg
	head.Signature = nil
	head.Standard = nil
	findings := hear(&head, r)
	if cfg.RequireAll {
		return allOf(findings).OK
	}
	return anyOf(findings).OK
}

// hear has the findings of all verifiers, in a fixed order.
func hear(cfg *tenantconfig.Webhooks, r *Request) []finding {
	findings := make([]finding, 0, 5)
	add := func(verifier string, f finding) {
		f.verifier = verifier
		findings = append(findings, f)
	}
	if cfg.Signature != nil {
		add(VerifierSignature, verifySignature(cfg.Signature, r))
	}
	if cfg.Standard != nil {
		f := verifyStandard(cfg.Standard, r)
		if cfg.Signature == nil { // else an attacker could leave out the id, or the other signature
			f = f.identified(r)
		}
		add(VerifierStandard, f)
	}
	if cfg.Token != nil {
		add(VerifierToken, verifyToken(cfg.Token, r))
	}
	if cfg.Basic != nil {
		add(VerifierBasic, verifyBasic(cfg.Basic, r))
	}
	if len(cfg.AllowedCIDRs) > 0 {
		add(verifierAddress, verifyAddress(cfg.AllowedCIDRs, r))
	}
	return findings
}

// anyOf accepts what one verifier accepts, and believes what any that accepts covers.
func anyOf(findings []finding) (v Verdict) {
	for _, f := range findings {
		v.OK = v.OK || f.refusal == ""
		v.CoversQuery = v.CoversQuery || (f.refusal == "" && f.query)
		v.CoversBody = v.CoversBody || (f.refusal == "" && f.body)
	}
	v.SignedDigest = signedDigest(findings)
	return v
}

// allOf accepts what every verifier accepts, and believes only what each of them covers.
func allOf(findings []finding) Verdict {
	ok := len(findings) > 0
	query := true
	body := true
	for _, f := range findings {
		ok = ok && f.refusal == ""
		query = query && f.query
		body = body && f.body
	}
	return Verdict{OK: ok, CoversQuery: ok && query, CoversBody: ok && body, SignedDigest: signedDigest(findings)}
}

// signedDigest returns the digest of what an accepted signature covers. Verifiers that sign the whole body or query
// agree on it, so that nobody can change it by leaving out one of two signatures.
func signedDigest(findings []finding) (digest []byte) {
	for _, f := range findings {
		if f.refusal == "" && f.digest != nil && (digest == nil || f.whole) {
			digest = f.digest
		}
	}
	return digest
}

// refusal is the reason that tells most: that of a verifier that found something wrong, before that of one that found nothing.
func refusal(findings []finding) (reason string) {
	for _, f := range findings {
		switch {
		case f.refusal == "":
		case !f.missing:
			return f.refusal
		case reason == "":
			reason = f.refusal
		}
	}
	return reason
}

// bare tells whether the request carries nothing that looks like a proof.
func bare(r *Request) bool {
	if r.PathToken != "" {
		return false
	}
	for name, values := range r.Header {
		n := strings.ToLower(name)
		if (n == "authorization" || strings.Contains(n, "signature")) && strings.Join(values, "") != "" {
			return false
		}
	}
	for name := range queryPairs(rawQuery(r)) {
		n := strings.ToLower(name)
		if strings.Contains(n, "token") || strings.Contains(n, "key") || strings.Contains(n, "secret") {
			return false
		}
	}
	return true
}

func rawQuery(r *Request) string {
	if r.URL == nil {
		return ""
	}
	return r.URL.RawQuery
}

// only returns the value of a header that is there once. Of two values one would be verified and the other perhaps believed.
func only(h http.Header, name string) (value string, missing bool) {
	switch v := h.Values(name); len(v) {
	case 0:
		return "", true
	case 1:
		return v[0], v[0] == ""
	}
	return "", false
}
