// Package password hashes and verifies the passwords of local users with
// argon2id (RFC 9106), at no less than the costs that OWASP ASVS 5.0 appendix C
// names.
//
// A hash takes 19 MiB and some 20 ms by design, so a flood of logins is an attack on
// memory and processors: the hashes that run at one time share a fixed amount
// of memory, and who would wait too long is refused with fault.Unavailable.
//
// Known limits: passwords are compared byte by byte, without Unicode
// normalisation, and not against lists of leaked ones; a user whose hash was
// made with other costs than today's can be told from an unknown one by time,
// until the next login renews it.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"io"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sync/semaphore"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
)

// The lengths of a password, in bytes.
const (
	MinLength = 8
	MaxLength = 1024
)

// Default are the least costs that are accepted for new hashes.
var Default = Params{Time: 2, MemoryKiB: 19 << 10, Threads: 1}

// Config says how passwords are hashed. Zero values mean the default.
type Config struct {
	Params Params
	// MemoryKiB is what all hashes at one time may take; 0 means four hashes.
	MemoryKiB uint32
	// Wait is how long a login waits for memory before it is refused; 0 means 1s.
	Wait time.Duration
	// Random makes the salts; nil means crypto/rand.Reader.
	Random io.Reader
}

// Hasher hashes and verifies passwords. It is safe for concurrent use.
type Hasher struct {
	Config
	memory *semaphore.Weighted // in KiB
	nobody hash                // stands for users that do not exist
}

// New returns a hasher. Costs below Default or beyond the supported ones are
// fault.Invalid.
func New(cfg Config) (*Hasher, error) {
	if cfg.Params == (Params{}) {
		cfg.Params = Default
	}
	if !cfg.Params.valid() || cfg.Params.weakerThan(Default) {
		return nil, fault.New(fault.Invalid, "argon2id costs %+v: expected at least %+v, and at most %d passes, %d KiB and %d threads", cfg.Params, Default, maxTime, maxMemoryKiB, maxThreads)
	}
	return newHasher(cfg)
}

// newHasher is New for any costs: tests cannot wait for real ones.
func newHasher(cfg Config) (*Hasher, error) {
	if cfg.MemoryKiB == 0 {
		cfg.MemoryKiB = 4 * cfg.Params.MemoryKiB
	}
	if cfg.MemoryKiB < cfg.Params.MemoryKiB {
		return nil, fault.New(fault.Invalid, "%d KiB for passwords: one hash takes %d KiB, give at least that", cfg.MemoryKiB, cfg.Params.MemoryKiB)
	}
	if cfg.Wait == 0 {
		cfg.Wait = time.Second
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	h := &Hasher{Config: cfg, memory: semaphore.NewWeighted(int64(cfg.MemoryKiB))}
	h.nobody = hash{Params: cfg.Params, salt: make([]byte, saltLen), sum: make([]byte, sumLen)}
	return h, nil
}

// Hash returns the PHC string of a new password, to be stored. fault.Invalid: it
// is too short or too long. fault.Unavailable: too many others at this time.
func (h *Hasher) Hash(ctx context.Context, password secret.Text) (string, error) {
	if n := password.Len(); n < MinLength || n > MaxLength {
		return "", fault.New(fault.Invalid, "the password has %d bytes: expected %d to %d", n, MinLength, MaxLength).WithCode("password_length")
	}
	salt := make([]byte, saltLen)
	if _, err := io.ReadFull(h.Random, salt); err != nil {
		return "", fault.Wrap(fault.Internal, err, "no randomness for a salt")
	}
	made := hash{Params: h.Params, salt: salt, sum: make([]byte, sumLen)}
	sum, err := h.sum(ctx, password, made)
	if err != nil {
		return "", err
	}
	made.sum = sum
	return made.String(), nil
}

// Verify returns nil if the password is the stored one, and rehash if the
// stored text was made at lower costs than today's, so that the caller stores a
// new one while it has the password. A wrong password is fault.Unauthenticated
// with the code "password_wrong".
func (h *Hasher) Verify(ctx context.Context, stored string, password secret.Text) (rehash bool, err error) {
	want, err := decode(stored)
	if err != nil {
		return false, err
	}
	if err := h.verify(ctx, want, password); err != nil {
		return false, err
	}
	return want.weakerThan(h.Params), nil
}

// VerifyNobody takes the time of Verify and fails as it does: it is called for a
// user that does not exist, who must look like one with another password.
func (h *Hasher) VerifyNobody(ctx context.Context, password secret.Text) error {
	if err := h.verify(ctx, h.nobody, password); err != nil {
		return err
	}
	return errWrong() // a preimage of zeros
}

func (h *Hasher) verify(ctx context.Context, want hash, password secret.Text) error {
	if password.Len() > MaxLength {
		return errWrong() // no stored password is that long, so time tells nothing
	}
	sum, err := h.sum(ctx, password, want)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(sum, want.sum) != 1 {
		return errWrong()
	}
	return nil
}

// sum computes argon2id with the costs, the salt and the length of like.
func (h *Hasher) sum(ctx context.Context, password secret.Text, like hash) ([]byte, error) {
	// A hash of higher costs than the total waits until nobody else runs.
	weight := min(int64(like.MemoryKiB), int64(h.MemoryKiB))
	if err := h.acquire(ctx, weight); err != nil {
		return nil, err
	}
	defer h.memory.Release(weight)
	return argon2.IDKey([]byte(password.Reveal()), like.salt, like.Time, like.Params.MemoryKiB, like.Threads, uint32(len(like.sum))), nil
}

func (h *Hasher) acquire(ctx context.Context, weight int64) error {
	waiting, cancel := context.WithTimeout(ctx, h.Wait)
	defer cancel()
	if err := h.memory.Acquire(waiting, weight); err != nil {
		if ctx.Err() != nil {
			return fault.Of(context.Cause(ctx))
		}
		return fault.New(fault.Unavailable, "too many logins at this time: try again in a moment").
			WithCode("password_busy").WithRetryAfter(h.Wait)
	}
	return nil
}

func errWrong() error {
	return fault.New(fault.Unauthenticated, "the user does not exist or the password is wrong").WithCode("password_wrong")
}
