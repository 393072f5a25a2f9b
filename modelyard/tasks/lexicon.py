"""The words a practitioner would name for each subject; written from knowledge of the field, not from any labelled set."""

from __future__ import annotations

# Domain -> its words; a trailing * matches a prefix.
LEXICON: dict[str, tuple[str, ...]] = {
    k: tuple(v.split())
    for k, v in {
        "react": """
        react jsx tsx component* hook* useeffect usestate usememo usecallback useref props render* rerender*
        re-render next nextjs suspense hydrat* server client children key keys memo layout page router
    """,
        "typescript": """
        typescript ts type types typed typing interface* generic* infer* union* discriminated narrow* tsconfig
        unknown keyof typeof satisfies enum enums readonly partial pick omit record overload* tsc declaration*
        mapped conditional assignable
    """,
        "css": """
        css tailwind* flex flexbox grid align* center* margin padding layout responsive media sticky overflow
        animation* transition* selector* z-index width height column* hover font* color* dark theme
        stylesheet* class classes breakpoint* pixel*
    """,
        "forms": """
        form forms input* valid* submit* field* checkbox* radio select textarea zod formik label error*
        required formdata upload* multi-step wizard autofill autocomplete
    """,
        "data_fetching": """
        fetch* swr tanstack query usequery axios api rest graphql endpoint* paginat* infinite cache*
        revalidat* stale request* response* poll* websocket* sse optimistic mutation* abort* retry retries
        loading prefetch*
    """,
        "state": """
        state redux zustand jotai mobx recoil context provider* reducer* usereducer store stores slice*
        selector* dispatch* action* global atom* xstate url localstorage persist* undo signal* derived
    """,
        "auth": """
        auth authent* authoriz* login logout log-in sign sso oauth* oidc saml jwt token* session* cookie*
        password* passkey* webauthn mfa 2fa csrf role* rbac permission* user users refresh nextauth clerk
    """,
        "databases": """
        database* db sql postgres* mysql sqlite mongo* table* index* join* query queries migration* orm prisma
        drizzle schema transaction* foreign row rows select insert constraint* deadlock* replica* vacuum pool*
        redis
    """,
        "testing": """
        test tests testing jest vitest playwright cypress mock* stub* assert* coverage unit e2e snapshot*
        flaky fixture* spec expect rtl msw tdd spy spies
    """,
        "performance": """
        performance slow* fast* lcp inp cls lighthouse bundle* lazy memo* profil* vitals speed* optimi* image*
        webpack tree-shak* ttfb cdn compress* preload* jank* fps latency heavy
    """,
        "accessibility": """
        accessib* a11y aria* screen reader* voiceover nvda wcag keyboard focus* contrast alt landmark* tab
        tabindex heading* label* announce* disabilit* blind
    """,
        "deployment": """
        deploy* docker* vercel netlify ci cd pipeline* nginx kubernetes k8s env environment* dns domain* ssl
        https certificate* hosting rollback* staging container* server aws github actions build release*
        terraform
    """,
        "debugging": """
        error* bug* crash* undefined null exception* stack trace typeerror cannot fail* broken wrong why blank
        console warning* stuck hydration mismatch unexpected uncaught works
    """,
        "maths": """
        integral* derivative* equation* solve* probabilit* matrix matrices theorem proof prove sum triangle*
        angle* percent* fraction* prime* polynomial* algebra geometr* calculus logarithm* factorial* average x
        y sqrt
    """,
        "data_analysis": """
        pandas dataframe* csv excel spreadsheet* column* groupby pivot* chart* plot* regression correlat*
        median mean average statist* p-value dataset* outlier* cohort* sales revenue a/b significan* variance
        histogram* forecast* numpy
    """,
        "writing": """
        write email* essay* letter* rewrite* paragraph* tone poem* story stories blog* summar* translat*
        proofread* grammar sentence* draft* cover speech caption* headline* polite formal wording article
    """,
        "chat": """
        hi hello hey thanks joke* feel* think opinion* favorite favourite recommend* weekend bored movie*
        book* dinner birthday friend* life day you your tell fun advice gift*
    """,
        "programming": """
        python rust golang go java c c++ bash shell regex* algorithm* script* function* linked list* recursion
        recursive pointer* loop* array* sort* binary tree* class lambda kotlin swift haskell awk sed thread*
        compile* game
    """,
    }.items()
}

DOMAINS = tuple(LEXICON)
