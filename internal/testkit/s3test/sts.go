package s3test

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// STSRules are what an STS knows of identity providers and roles. The zero value trusts nobody.
type STSRules struct {
	// Issuer of tokens that is registered, with its Keys and the audiences that are registered for it.
	Issuer    string
	Keys      jose.JSONWebKeySet
	Audiences []string
	// RoleARN is the role, Subject and TrustedAudience the conditions of its trust policy, and MaxSession the longest
	// session. MaxSession is 1 h if it is 0.
	RoleARN, Subject, TrustedAudience string
	MaxSession                        time.Duration
	// Skew is how far the clock is ahead.
	Skew time.Duration
	// NoRole is the variant of MinIO without a role policy: a request must not name a role. Source: minio/minio,
	// docs/sts/web-identity.md.
	NoRole bool
	// S3Errors is the variant of Ceph, whose errors have the form of S3's. Source: ceph/ceph, src/rgw/rgw_rest_sts.cc.
	S3Errors bool
	// Lifetime replaces the duration that a request asks for.
	Lifetime time.Duration
	// Refuse answers a request before all else; nil, or a nil result, goes on.
	Refuse func(url.Values) *Refusal
	// Alter changes an answer; nil leaves it.
	Alter func(answer string) string
}

// STS is a security token service that enforces what Amazon documents for AssumeRoleWithWebIdentity, and whose
// credentials a Strict store accepts until they expire. Source of parameters and errors:
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
type STS struct {
	// URL is the endpoint.
	URL string

	store *Strict

	mu     sync.Mutex
	rules  STSRules
	forms  []url.Values
	serial int
}

// NewSTS starts one that issues credentials for a store.
func NewSTS(t testing.TB, store *Strict, rules STSRules) *STS {
	t.Helper()
	sts := &STS{store: store, rules: rules}
	server := httptest.NewServer(sts)
	t.Cleanup(server.Close)
	sts.URL = server.URL
	return sts
}

// AtStore makes the store's endpoint that of the STS too, as with MinIO and Ceph.
func (s *STS) AtStore() {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.sts = s
	s.URL = s.store.URL
}

// SetRules changes the rules.
func (s *STS) SetRules(change func(*STSRules)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.rules)
}

// Requests returns the forms of the requests so far.
func (s *STS) Requests() []url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.forms)
}

// ServeHTTP implements http.Handler.
func (s *STS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	form, formErr := url.ParseQuery(string(body))
	if err != nil {
		return // the client is gone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forms = append(s.forms, form)
	s.serial++
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	no := &Refusal{400, "MalformedInput", "", ""}
	if formErr == nil && r.Method == http.MethodPost && r.URL.RawQuery == "" {
		no = s.assume(w, form)
	}
	if no != nil {
		s.refuse(w, r, no)
	}
}

func (s *STS) now() time.Time { return time.Now().Add(s.rules.Skew) }

func (s *STS) requestID() string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", s.serial) }

func (s *STS) refuse(w http.ResponseWriter, r *http.Request, no *Refusal) {
	if s.rules.S3Errors {
		no.write(w, r)
		return
	}
	w.WriteHeader(no.Status)
	_, _ = fmt.Fprintf(w, `<ErrorResponse xmlns="%s"><Error><Type>Sender</Type><Code>%s</Code><Message>`, stsNamespace,
		no.Code)
	_ = xml.EscapeText(w, []byte(no.Message))
	_, _ = fmt.Fprintf(w, "</Message></Error><RequestId>%s</RequestId></ErrorResponse>", s.requestID())
}

const (
	stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"
	maxSTSToken  = 20_000
)

func (s *STS) assume(w http.ResponseWriter, form url.Values) *Refusal {
	if s.rules.Refuse != nil {
		if no := s.rules.Refuse(form); no != nil {
			return no
		}
	}
	duration, no := s.check(form)
	if no != nil {
		return no
	}
	claims, no := s.verify(form.Get("WebIdentityToken"))
	if no != nil {
		return no
	}
	if !s.trusts(form.Get("RoleArn"), claims) {
		return &Refusal{403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", ""}
	}
	if s.rules.Lifetime != 0 {
		duration = s.rules.Lifetime
	}
	_, _ = io.WriteString(w, s.issue(form, claims, duration))
	return nil
}

// trusts evaluates the trust policy of the role.
func (s *STS) trusts(role string, claims *jwt.Claims) bool {
	return (s.rules.NoRole || role == s.rules.RoleARN) &&
		(s.rules.Subject == "" || s.rules.Subject == claims.Subject) &&
		(s.rules.TrustedAudience == "" || claims.Audience.Contains(s.rules.TrustedAudience))
}

var (
	roleForm    = regexp.MustCompile(`^[\x09\x0A\x0D\x20-\x7E\x85\xA0-\x{D7FF}\x{E000}-\x{FFFD}]+$`)
	sessionForm = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

// check holds the parameters to their documented constraints.
func (s *STS) check(form url.Values) (time.Duration, *Refusal) {
	if form.Get("Action") != "AssumeRoleWithWebIdentity" || form.Get("Version") != "2011-06-15" {
		return 0, &Refusal{400, "InvalidAction", fmt.Sprintf("Could not find operation %s for version %s",
			form.Get("Action"), form.Get("Version")), ""}
	}
	for name, values := range form {
		if len(values) != 1 || !slices.Contains([]string{"Action", "Version", "RoleArn", "RoleSessionName",
			"WebIdentityToken", "DurationSeconds"}, name) {
			return 0, invalid("unexpected or repeated parameter " + name)
		}
	}
	token := form.Get("WebIdentityToken")
	role := form.Get("RoleArn")
	switch {
	case s.rules.NoRole && form.Has("RoleArn"):
		return 0, &Refusal{400, "InvalidParameterValue", "RoleARN must not be specified", ""}
	case !s.rules.NoRole && (len(role) < 20 || len(role) > 2048 || !roleForm.MatchString(role)):
		return 0, invalid("Value '" + role + "' at 'roleArn' failed to satisfy constraint")
	case !s.rules.NoRole && !sessionForm.MatchString(form.Get("RoleSessionName")):
		return 0,
			invalid("Value '" + form.Get("RoleSessionName") + "' at 'roleSessionName' failed to satisfy constraint")
	case len(token) < 4 || len(token) > maxSTSToken:
		return 0, invalid("Value at 'webIdentityToken' failed to satisfy constraint: Member must have length less " +
			"than or equal to 20000")
	}
	return s.duration(form)
}

func invalid(detail string) *Refusal {
	return &Refusal{400, "ValidationError", "1 validation error detected: " + detail, ""}
}

func (s *STS) duration(form url.Values) (time.Duration, *Refusal) {
	if !form.Has("DurationSeconds") {
		return time.Hour, nil
	}
	seconds, err := strconv.Atoi(form.Get("DurationSeconds"))
	asked := time.Duration(seconds) * time.Second
	most := s.rules.MaxSession
	if most == 0 {
		most = time.Hour
	}
	switch {
	case err != nil || seconds < 900 || seconds > 43200:
		return 0,
			invalid("Value '" + form.Get("DurationSeconds") + "' at 'durationSeconds' failed to satisfy constraint")
	case asked > most:
		return 0, &Refusal{400, "ValidationError",
			"The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", ""}
	}
	return asked, nil
}

// verify has the texts that aws/karpenter-provider-aws#4920, kubernetes-sigs/aws-load-balancer-controller#2174 and
// aws/amazon-eks-pod-identity-webhook#8 quote.
func (s *STS) verify(raw string) (*jwt.Claims, *Refusal) {
	refused := func(message string) (*jwt.Claims, *Refusal) {
		return nil, &Refusal{400, "InvalidIdentityToken", message, ""}
	}
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		return refused("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	}
	var unverified, claims jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&unverified); err != nil || unverified.Issuer != s.rules.Issuer {
		return refused("No OpenIDConnect provider found in your account for " + unverified.Issuer)
	}
	if err := token.Claims(&s.rules.Keys, &claims); err != nil {
		return refused("Couldn't retrieve verification key from your identity provider, please reference " +
			"AssumeRoleWithWebIdentity documentation for requirements")
	}
	if claims.Expiry == nil {
		return refused("Missing a required claim: exp")
	}
	if now := s.now(); !now.Before(claims.Expiry.Time()) {
		return nil, &Refusal{400, "ExpiredTokenException", fmt.Sprintf("Token expired: current date/time %d must be "+
			"before the expiration date/time %d", now.Unix(), claims.Expiry.Time().Unix()), ""}
	}
	if !slices.ContainsFunc(s.rules.Audiences, claims.Audience.Contains) {
		return refused("Incorrect token audience")
	}
	return &claims, nil
}

// issue makes credentials that the store accepts, and returns the answer with them.
func (s *STS) issue(form url.Values, claims *jwt.Claims, lifetime time.Duration) string {
	expires := s.now().Add(lifetime).UTC().Truncate(time.Second)
	key := IssuedKey{
		AccessKey: fmt.Sprintf("ASIA%016d", s.serial),
		SecretKey: random(),
		Token:     "FwoGZXIvYXdz" + random(),
		Expires:   expires,
	}
	s.store.Issue(key)
	answer := fmt.Sprintf(`<AssumeRoleWithWebIdentityResponse xmlns="%s"><AssumeRoleWithWebIdentityResult>`+
		`<SubjectFromWebIdentityToken>%s</SubjectFromWebIdentityToken><Audience>%s</Audience>`+
		`<AssumedRoleUser><Arn>%s/%s</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser>`+
		`<Credentials><SessionToken>%s</SessionToken><SecretAccessKey>%s</SecretAccessKey><Expiration>%s</Expiration>`+
		`<AccessKeyId>%s</AccessKeyId></Credentials><Provider>%s</Provider></AssumeRoleWithWebIdentityResult>`+
		`<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>`,
		stsNamespace, claims.Subject, claims.Audience[0], form.Get("RoleArn"), form.Get("RoleSessionName"), key.Token,
		key.SecretKey, expires.Format(time.RFC3339), key.AccessKey, claims.Issuer, s.requestID())
	if s.rules.Alter != nil {
		answer = s.rules.Alter(answer)
	}
	return answer
}
