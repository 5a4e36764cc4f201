/* Written by `python -m verification.formal.edges` from the state machine and the phases; edit those. */
#define PENDING 0
#define VALIDATING 1
#define COLLECTING 2
#define ARCHIVING 3
#define COPYING 4
#define CLEANING 5
#define AWAITING_CONSENT 6
#define SUCCEEDED 7
#define SKIPPED 8
#define FAILED 9
#define MAX_MISMATCHES 5
inline done(p) { phase = (p == VALIDATING -> COLLECTING : (p == COLLECTING -> ARCHIVING : (p == ARCHIVING -> CLEANING : (p == COPYING -> CLEANING : (p == CLEANING -> SUCCEEDED : 10))))); resume = (p == VALIDATING -> COLLECTING : (p == COLLECTING -> ARCHIVING : (p == ARCHIVING -> CLEANING : (p == COPYING -> CLEANING : (p == CLEANING -> CLEANING : 10))))) }
inline done_with_copies(p) { phase = (p == VALIDATING -> COLLECTING : (p == COLLECTING -> ARCHIVING : (p == ARCHIVING -> COPYING : (p == COPYING -> CLEANING : (p == CLEANING -> SUCCEEDED : 10))))); resume = (p == VALIDATING -> COLLECTING : (p == COLLECTING -> ARCHIVING : (p == ARCHIVING -> COPYING : (p == COPYING -> CLEANING : (p == CLEANING -> COPYING : 10))))) }
inline wait(p) { phase = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == COPYING -> COPYING : (p == CLEANING -> CLEANING : 10))))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == COPYING -> COPYING : (p == CLEANING -> CLEANING : 10))))) }
inline exceed_deadline(p) { phase = (p == VALIDATING -> FAILED : (p == COLLECTING -> FAILED : (p == ARCHIVING -> FAILED : (p == COPYING -> FAILED : (p == CLEANING -> FAILED : 10))))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == COPYING -> COPYING : (p == CLEANING -> CLEANING : 10))))) }
inline pause(p) { phase = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == COPYING -> COPYING : (p == CLEANING -> CLEANING : 10))))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == COPYING -> COPYING : (p == CLEANING -> CLEANING : 10))))) }
inline hold(p) { phase = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == COPYING -> COPYING : (p == CLEANING -> CLEANING : 10))))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == COPYING -> COPYING : (p == CLEANING -> CLEANING : 10))))) }
inline need_consent(p) { phase = (p == VALIDATING -> AWAITING_CONSENT : (p == COLLECTING -> AWAITING_CONSENT : (p == ARCHIVING -> AWAITING_CONSENT : (p == COPYING -> AWAITING_CONSENT : (p == CLEANING -> AWAITING_CONSENT : 10))))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == COPYING -> COPYING : (p == CLEANING -> CLEANING : 10))))) }
inline skip_envelope(p) { phase = (p == VALIDATING -> SKIPPED : (p == COLLECTING -> SKIPPED : (p == ARCHIVING -> SKIPPED : (p == COPYING -> SKIPPED : (p == CLEANING -> SKIPPED : 10))))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> VALIDATING : (p == ARCHIVING -> VALIDATING : (p == COPYING -> VALIDATING : (p == CLEANING -> VALIDATING : 10))))) }
inline fail(p) { phase = (p == VALIDATING -> FAILED : (p == COLLECTING -> FAILED : (p == ARCHIVING -> FAILED : (p == COPYING -> FAILED : (p == CLEANING -> FAILED : 10))))); resume = (p == VALIDATING -> VALIDATING : (p == COLLECTING -> COLLECTING : (p == ARCHIVING -> ARCHIVING : (p == COPYING -> COPYING : (p == CLEANING -> CLEANING : 10))))) }
inline restart_from(p, first) { phase = (p == ARCHIVING && first == COLLECTING -> ARCHIVING : (p == COPYING && first == VALIDATING -> COPYING : (p == COPYING && first == COLLECTING -> COPYING : (p == CLEANING && first == VALIDATING -> CLEANING : (p == CLEANING && first == COLLECTING -> CLEANING : (p == CLEANING && first == COPYING -> CLEANING : 10)))))); resume = (p == ARCHIVING && first == COLLECTING -> COLLECTING : (p == COPYING && first == VALIDATING -> VALIDATING : (p == COPYING && first == COLLECTING -> COLLECTING : (p == CLEANING && first == VALIDATING -> VALIDATING : (p == CLEANING && first == COLLECTING -> COLLECTING : (p == CLEANING && first == COPYING -> COPYING : 10)))))) }
