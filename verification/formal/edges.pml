/* Written by `python -m verification.formal.edges` from the state machine and `phases/clean.py`; edit those. */
#define PENDING 0
#define VALIDATING 1
#define COLLECTING 2
#define ARCHIVING 3
#define CLEANING 4
#define AWAITING_CONSENT 5
#define SUCCEEDED 6
#define SKIPPED 7
#define FAILED 8
#define MAX_MISMATCHES 5
inline done(p) { phase = (p == VALIDATING -> COLLECTING : (p == COLLECTING -> ARCHIVING : (p == ARCHIVING -> CLEANING : (p == CLEANING -> SUCCEEDED : 9)))); resume = (p == VALIDATING -> COLLECTING : (p == COLLECTING -> ARCHIVING : (p == ARCHIVING -> CLEANING : (p == CLEANING -> CLEANING : 9)))) }
inline wait(p) { phase = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == CLEANING -> CLEANING : 9)))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == CLEANING -> CLEANING : 9)))) }
inline exceed_deadline(p) { phase = (p == VALIDATING -> FAILED : (p == COLLECTING -> FAILED : (p == ARCHIVING -> FAILED : (p == CLEANING -> FAILED : 9)))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == CLEANING -> CLEANING : 9)))) }
inline pause(p) { phase = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == CLEANING -> CLEANING : 9)))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == CLEANING -> CLEANING : 9)))) }
inline hold(p) { phase = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == CLEANING -> CLEANING : 9)))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == CLEANING -> CLEANING : 9)))) }
inline need_consent(p) { phase = (p == VALIDATING -> AWAITING_CONSENT : (p == COLLECTING -> AWAITING_CONSENT : (p == ARCHIVING -> AWAITING_CONSENT : (p == CLEANING -> AWAITING_CONSENT : 9)))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == CLEANING -> CLEANING : 9)))) }
inline skip_envelope(p) { phase = (p == VALIDATING -> SKIPPED : (p == COLLECTING -> SKIPPED : (p == ARCHIVING -> SKIPPED : (p == CLEANING -> SKIPPED : 9)))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> VALIDATING : (p == ARCHIVING -> VALIDATING : (p == CLEANING -> VALIDATING : 9)))) }
inline fail(p) { phase = (p == VALIDATING -> FAILED : (p == COLLECTING -> FAILED : (p == ARCHIVING -> FAILED : (p == CLEANING -> FAILED : 9)))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == CLEANING -> CLEANING : 9)))) }
inline restart_from(p, first) { phase = (p == ARCHIVING && first == COLLECTING -> ARCHIVING : (p == CLEANING && first == VALIDATING -> CLEANING : (p == CLEANING && first == COLLECTING -> CLEANING : 9))); resume = (p == ARCHIVING && first == COLLECTING -> COLLECTING : (p == CLEANING && first == VALIDATING -> VALIDATING : (p == CLEANING && first == COLLECTING -> COLLECTING : 9))) }
