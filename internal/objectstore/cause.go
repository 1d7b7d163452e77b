package objectstore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/resilience"
)

// Reason names a kind of fault of a store. Reasons are condition reasons, too.
type Reason string

// Reasons of faults that concern every object of a bucket.
const (
	BucketNotFound        Reason = "BucketNotFound"
	CredentialsRefused    Reason = "CredentialsRefused"
	AccessDenied          Reason = "AccessDenied"
	AccountDisabled       Reason = "AccountDisabled"
	RegionMismatch        Reason = "RegionMismatch"
	EndpointMismatch      Reason = "EndpointMismatch"
	AddressingStyle       Reason = "AddressingStyle"
	ClockSkew             Reason = "ClockSkew"
	QuotaExceeded         Reason = "QuotaExceeded"
	EncryptionRequired    Reason = "EncryptionRequired"
	EncryptionKeyRefused  Reason = "EncryptionKeyRefused"
	ObjectLocked          Reason = "ObjectLocked"
	StorageClassRefused   Reason = "StorageClassRefused"
	NotSupported          Reason = "NotSupported"
	CertificateNotTrusted Reason = "CertificateNotTrusted"
	ContentChanged        Reason = "ContentChanged"
	EndpointUnreachable   Reason = "EndpointUnreachable"
	EndpointNotAllowed    Reason = "EndpointNotAllowed"
	CredentialsExpired    Reason = "CredentialsExpired"
	IdentityRefused       Reason = "WebIdentityRefused"
	IdentityUnavailable   Reason = "WebIdentityUnavailable"
)

// Cause is what an error of a store means for every object of the bucket. The zero value means that the error may
// concern one object or one moment only.
type Cause struct {
	Reason Reason
	// What is wrong, and Advice for the author of the Tenant.
	What, Advice string
	// Stop reports that no retry helps until a person changes something.
	Stop bool
}

// Reasons returns the reasons that an answer may have, in no order.
func Reasons() []Reason { return slices.Collect(maps.Keys(causes)) }

// causes are the meanings of the reasons that an answer may have.
var causes = map[Reason]Cause{
	BucketNotFound: {
		What:   "the bucket does not exist",
		Stop:   true,
		Advice: "create it, or correct spec.recordings.bucket, endpoint and region",
	},
	CredentialsRefused: {
		What:   "the store refused the credentials",
		Stop:   true,
		Advice: "correct the Secret that spec.recordings.credentialsSecretRef names, or spec.recordings.webIdentity",
	},
	CredentialsExpired: {
		What:   "the temporary credentials have expired",
		Stop:   true,
		Advice: "replace the keys of the Secret that spec.recordings.credentialsSecretRef names",
	},
	AccessDenied: {
		What: "the store denied access to the bucket",
		Stop: true,
		Advice: "allow the key of spec.recordings.credentialsSecretRef or the role of webIdentity to list the " +
			"bucket, and to read, write and delete objects below the Tenant's prefix, or correct the bucket's policy",
	},
	AccountDisabled: {
		What:   "the store has disabled the account",
		Stop:   true,
		Advice: "ask the store's provider",
	},
	RegionMismatch: {
		What:   "the bucket is in another region",
		Stop:   true,
		Advice: "correct spec.recordings.region, and spec.recordings.endpoint if it names a region",
	},
	EndpointMismatch: {
		What:   "the store redirects to another endpoint",
		Stop:   true,
		Advice: "correct spec.recordings.endpoint and region",
	},
	AddressingStyle: {
		What:   "the store does not take this form of address for a bucket",
		Stop:   true,
		Advice: "change spec.recordings.addressing to VirtualHost or Path",
	},
	ClockSkew: {
		What:   "the clocks of the store and of this machine differ too much",
		Advice: "have the platform correct the time of its nodes",
	},
	QuotaExceeded: {
		What:   "the store has no room left for the bucket",
		Stop:   true,
		Advice: "raise the quota, or delete objects",
	},
	EncryptionRequired: {
		What:   "the bucket takes objects with another encryption only",
		Stop:   true,
		Advice: "set spec.recordings.encryption as the bucket's policy requires",
	},
	EncryptionKeyRefused: {
		What: "the store cannot use the encryption key",
		Stop: true,
		Advice: "correct spec.recordings.encryption.kmsKeyID, and allow the key of " +
			"spec.recordings.credentialsSecretRef " +
			"kms:GenerateDataKey and kms:Decrypt with it",
	},
	ObjectLocked: {
		What: "the bucket's Object Lock forbids it",
		Advice: "wait for the next check of the bucket, which finds the checksum that it takes; what is locked stays " +
			"until its retention ends",
	},
	StorageClassRefused: {
		What:   "the store does not have the storage class",
		Stop:   true,
		Advice: "correct spec.recordings.storageClass",
	},
	NotSupported: {
		What:   "the store does not support the request",
		Stop:   true,
		Advice: "remove the options of spec.recordings that it lacks, or use another store",
	},
	ContentChanged: {
		What:   "the store returned other bytes than were written",
		Stop:   true,
		Advice: "use a store that keeps objects as they are sent",
	},
	CertificateNotTrusted: {
		What:   "the store's certificate is not trusted",
		Stop:   true,
		Advice: "name the authority that signed it in spec.recordings.caSecretRef, or correct spec.recordings.endpoint",
	},
}

// rule maps answers to a reason. The first one that fits counts.
type rule struct {
	// codes are those it is for, separated by blanks; one that ends in "*" is a prefix. Empty means any code.
	codes string
	// status it is for; 0 means any.
	status int
	// text is a part of the message, in lower case; empty means any message.
	text   string
	reason Reason
}

// rules are what stores answer. The codes without a source are those of Amazon's list:
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
var rules = []rule{
	{codes: "NoSuchBucket InvalidBucketName", reason: BucketNotFound},
	{codes: "RequestTimeTooSkewed RequestExpired", reason: ClockSkew},
	{codes: "InvalidSignatureException SignatureDoesNotMatch", text: "signature expired", reason: ClockSkew},
	{codes: "InvalidSignatureException SignatureDoesNotMatch", text: "not yet current", reason: ClockSkew},
	{codes: "ExpiredToken TokenRefreshRequired", reason: CredentialsExpired},
	// XAdminUserNotFound is versitygw's, InvalidSecurityToken Huawei's, InvalidTokenId MinIO's.
	{
		codes: "InvalidAccessKeyId SignatureDoesNotMatch XAdminUserNotFound InvalidToken InvalidTokenId " +
			"InvalidSecurity InvalidSecurityToken UnauthorizedAccess",
		reason: CredentialsRefused,
	},
	{codes: "AccountProblem AllAccessDisabled NotSignedUp UserSuspended AccountSuspended", reason: AccountDisabled},
	// TTLabs/EvaporateJS#364; CulturalMe/meteor-slingshot#150 for InvalidArgument.
	{codes: "AuthorizationHeaderMalformed InvalidArgument InvalidRequest", text: "region", reason: RegionMismatch},
	{codes: "InvalidRegion IllegalLocationConstraintException AuthorizationHeaderMalformed", reason: RegionMismatch},
	{codes: "PermanentRedirect TemporaryRedirect Redirect", reason: EndpointMismatch},
	// electron-userland/electron-builder#8674 (Alibaba), coze-dev/coze-studio#2308 (Tencent), cloudlena/s3manager#82.
	{codes: "SecondLevelDomainForbidden PathStyleDomainForbidden", reason: AddressingStyle},
	{text: "virtual host", reason: AddressingStyle},
	// versity/versitygw#503, minio/minio-py#1313, noobaa/noobaa-core#8668, ceph/ceph#24800.
	{
		codes: "QuotaExceeded QuotaExceededException XMinioAdminBucketQuotaExceeded XMinioStorageFull " +
			"ObjectQuotaExceeded " +
			"UserNumberQuotaExceeded UserSizeQuotaExceeded BucketNumberQuotaExceeded BucketSizeQuotaExceeded " +
			"BucketQuotaExceeded StorageLimitExceeded InsufficientStorage InsufficientCapacity",
		reason: QuotaExceeded,
	},
	{status: 507, reason: QuotaExceeded},
	{status: 403, text: "quota", reason: QuotaExceeded},
	{status: 403, text: "storage cap", reason: QuotaExceeded},
	// aws/aws-cli#4507; buildkite/docs#2344 for kms:GenerateDataKey; XMinioKMS* and KMSNotConfigured are MinIO's.
	{codes: "KMS* XMinioKMS* InvalidEncryptionAlgorithmError InvalidEncryptionMethod", reason: EncryptionKeyRefused},
	{text: "kms:", reason: EncryptionKeyRefused},
	{text: "server-side-encryption", reason: EncryptionRequired},
	// aws/aws-sdk-php#2256, s3tools/s3cmd#1436; "Access Denied because object protected by object lock" is Amazon's.
	{text: "object lock", reason: ObjectLocked},
	{codes: "ObjectLocked", reason: ObjectLocked},
	{codes: "InvalidStorageClass", reason: StorageClassRefused},
	{text: "storage class", reason: StorageClassRefused},
	{codes: "NotImplemented XNotImplemented APINotSupported", reason: NotSupported},
	{codes: "AccessDenied AccessForbidden Forbidden", reason: AccessDenied},
	// Answers to HEAD have a status only.
	{status: 301, reason: EndpointMismatch},
	{status: 307, reason: EndpointMismatch},
	{status: 401, reason: CredentialsRefused},
	{status: 403, reason: AccessDenied},
}

var skewed = map[string]bool{"RequestTimeTooSkewed": true, "RequestExpired": true}

// fits reports whether the rule is for an answer.
func (r *rule) fits(a *AnswerError) bool {
	if r.status != 0 && r.status != a.Status || r.text != "" && !strings.Contains(strings.ToLower(a.Text), r.text) {
		return false
	}
	if r.codes == "" {
		return true
	}
	for code := range strings.FieldsSeq(r.codes) {
		prefix, wild := strings.CutSuffix(code, "*")
		if a.Code == code || wild && strings.HasPrefix(a.Code, prefix) {
			return true
		}
	}
	return false
}

// CauseOf returns what an error of a store means for the bucket as a whole.
func CauseOf(err error) Cause {
	var (
		none        *NoAnswerError
		certificate *certificateError
		encryption  *encryptionError
		answer      *AnswerError
	)
	switch {
	case errors.As(err, &none): // another service's status says nothing about the bucket
		return Cause{}
	case errors.As(err, &certificate):
		return cause(CertificateNotTrusted)
	case errors.Is(err, errContent):
		return cause(ContentChanged)
	case errors.As(err, &encryption):
		return cause(EncryptionRequired)
	case !errors.As(err, &answer) || resilience.Classify(answer) == resilience.Transient && answer.Status != 507:
		return Cause{}
	}
	if answer.Region != "" && answer.Status == 400 {
		return cause(RegionMismatch)
	}
	for i := range rules {
		if rules[i].fits(answer) {
			return cause(rules[i].reason).renewedBy(answer)
		}
	}
	return Cause{}
}

// forgotten are the codes with which a store answers that forgets temporary credentials once they have expired. Source:
// minio/minio, cmd/signature-v4-utils.go (checkKeyValid) and cmd/api-errors.go (InvalidTokenId).
var forgotten = map[string]bool{"InvalidAccessKeyId": true, "InvalidTokenId": true}

// renewedBy returns the cause for credentials that are renewed: a retry helps.
func (c Cause) renewedBy(answer *AnswerError) Cause {
	switch {
	case !answer.renewed:
		return c
	case c.Reason == CredentialsRefused && forgotten[answer.Code]:
		c = cause(CredentialsExpired)
		c.What = "the temporary credentials have expired, or the store does not know the STS that issued them"
	case c.Reason != CredentialsExpired:
		return c
	}
	c.Stop = false
	c.Advice = "wait: the operator renews them; see the Tenant's condition CredentialsValid if this lasts"
	return c
}

func cause(r Reason) Cause {
	c := causes[r]
	c.Reason = r
	return c
}

// Explain returns the text of an error with what it means and what to do, if it concerns the bucket as a whole. It is
// for the Tenant's author.
func Explain(err error) string {
	cause := CauseOf(err)
	if cause.Reason == "" {
		return bounded.Text(err.Error(), maxDetail)
	}
	return fmt.Sprintf("%s (%v): %s", cause.What, err, cause.Advice)
}
