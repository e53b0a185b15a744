/* An upper bound of a neuron's potential until its last input arrives, from a few sums over its inputs.
 *
 * A lead s is the time from t_min back to t. With C+(s) = sum of max(w, 0) min(lead, s), and C- of max(-w, 0), the potential at t is
 * V(s) = V(0) - alpha min(s, length) - C+(s) + C-(s). Both are concave, and 0 at 0. So between two marks a and b, C+ is above its chord, and C- is
 * below the line from the origin through (a, C-(a)), before the first mark below the line of slope C-'(0); and below C-(b), after the
 * last mark below its limit.
 *
 * v0, alpha >= 0, length, slope, limit: V(0), the drive, how long it lasts until s = 0, C-'(0) and the limit of C-, or upper bounds of them; marks rising; plus, minus: C+
 * at the marks or lower bounds, C- or upper bounds. Evaluated in doubles, whose rounding the caller allows for.
 */
static inline double highest(double v0, double alpha, double length, double slope, double limit, int count, const double *marks,
                             const double *plus, const double *minus) {
    double top = v0, start = 0, low = 0;
    for (int k = 0; k <= count; k++) {
        double cap = k < count && minus[k] < limit ? minus[k] : limit;
        /* For any t: up to t the bound is convex, highest at an end; from t on C- is below cap. They meet at t = cap / slope. */
        double t = slope > 0 ? cap / slope : start;
        t = t > start ? t : start;
        if (k < count && t > marks[k]) t = marks[k];
        double chord = k < count ? low + (plus[k] - low) * ((t - start) / (marks[k] - start)) : low;
        double reach = slope * t > cap ? slope * t : cap;
        double value = v0 - alpha * (t < length ? t : length) - chord + reach;
        top = value > top || value != value ? value : top;
        if (k < count) {
            start = marks[k], low = plus[k];
            slope = cap / marks[k];
        }
    }
    return top;
}
