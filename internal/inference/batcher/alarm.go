package batcher

import "time"

// alarm is the batcher's one timer. It may go off early, since it is not put
// back while the queue moves on; whoever it wakes then looks again.
type alarm struct {
	timer *time.Timer
	at    time.Duration // when it goes off; never if it is not set
}

// setAlarm sees to it that offer and watchLate are called at again, or earlier if a
// queued task becomes too late before that.
func (b *Batcher[T]) setAlarm(again time.Duration) {
	if b.byDue.len() > 0 {
		again = min(again, b.lastChance(b.byDue.head()))
	}
	if again >= b.alarm.at {
		return
	}
	b.alarm.at = again
	wait := again - b.now()
	if b.timer == nil {
		b.timer = time.AfterFunc(wait, b.wakeUp)
	} else {
		b.timer.Reset(wait)
	}
}

func (b *Batcher[T]) wakeUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alarm.at = never
	now := b.now()
	b.watchLate(now)
	b.offer(now, nil)
}

// silence stops the alarm: nothing is left to wake up for.
func (b *Batcher[T]) silence() {
	if b.timer != nil {
		b.timer.Stop()
	}
	b.alarm.at = never
}
